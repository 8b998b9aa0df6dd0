"""Training on one accelerator: images a second, and what is waited for, case by case.

`sh benchmarks/gpu.sh` or `python benchmarks/gpu.py [--minutes=8] [--backbone=ResNet50]
[--image_size=224]` runs one case after another, each for a few seconds after it was
compiled, and keeps each in results/gpu.json as soon as it is there. Run it again to go
on where it was cut off: cases of the same commit and device are not repeated.

The steps, the input and the augmentation are those of the trainer. The weights are
random and the photographs are drawn, 500 x 375 px: neither changes the arithmetic.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time

import tables

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
NUM_IMAGES, NUM_CLASSES = 1024, 4


@dataclasses.dataclass(frozen=True)
class Case:
    regime: str = "finetune"  # head, finetune or full
    precision: str = "mixed_bfloat16"
    xla: str = "on"
    augment: str = "basic"
    input: str = "memory"  # shards, memory, decoded or features
    batch_size: int = 64


def list_cases():
    """Returns the base case, and cases that differ from it in one or two settings."""
    regimes = ("finetune", "head", "full")
    precisions = ("mixed_bfloat16", "float32", "mixed_float16")
    cases = [Case(r, precision=p) for p in precisions for r in regimes]
    cases += [Case(r, batch_size=256) for r in regimes]
    cases += [
        Case(r, input=i)
        for r in ("finetune", "head")
        for i in ("features", "decoded", "shards")
    ]
    cases += [Case(r, xla="off") for r in regimes]
    cases += [
        Case(r, augment=a) for r in ("finetune", "head") for a in ("none", "strong")
    ]
    return list(dict.fromkeys(cases))


def make_data(folder):
    """Draws photographs, prepares them and returns the directory."""
    import numpy as np
    from PIL import Image

    from pipeline import prepare

    rng = np.random.default_rng(1)
    for index in range(NUM_IMAGES * 10 // 8):
        path = pathlib.Path(folder, "photos", str(index % NUM_CLASSES), f"{index}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((500, 375)), np.float32)
        noisy = smooth + rng.normal(0, 6, smooth.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=90)
    data = os.path.join(folder, "data")
    prepare.prepare(os.path.join(folder, "photos"), data)
    return data


def build(base, case, options):
    """Returns the runtime, the classifier and the frozen prefix of a case."""
    from trainer.config.head_config import HeadConfig
    from trainer.models import backbones, freezing
    from trainer.models.classifier import build_classifier, dtype_policy
    from trainer.models.frozen_prefix import find_frozen_prefix

    runtime = dataclasses.replace(
        base, precision=case.precision, jit=case.xla == "on" and options.has_gpu
    )
    with runtime.strategy.scope(), dtype_policy(case.precision):
        backbone = backbones.build_backbone(
            options.backbone, options.backbone_args, image_size=options.image_size
        )
        classifier = build_classifier(
            backbone,
            options.backbone,
            num_classes=NUM_CLASSES,
            head=HeadConfig("avg", units=0, dropout=0.0),
        )
    layers = len(backbone.layers)
    frozen = {"head": layers, "finetune": layers * 4 // 5, "full": 0}[case.regime]
    freezing.freeze(backbone, frozen)
    return runtime, classifier, find_frozen_prefix(classifier)


def read(runtime, case, options, prefix):
    """Returns the records that a case reads."""
    import ml_dtypes
    import numpy as np

    from pipeline.loading import prepared_data
    from trainer.features.cache import cache_images
    from trainer.features.cache_dir import FeatureCache

    records = prepared_data.read_records(
        options.data, "train", cached=case.input == "memory"
    )
    if case.input == "decoded":
        return cache_images(
            runtime,
            FeatureCache(pathlib.Path(options.folder, "cache"), 10**11, {}),
            records,
            split="train",
            image_size=options.image_size,
            batch_size=case.batch_size,
        )
    if case.input != "features":
        return records
    shape = prefix.prefix.output.shape[1:]
    precision = case.precision.removeprefix("mixed_")
    dtype = ml_dtypes.bfloat16 if precision == "bfloat16" else np.dtype(precision)
    features = np.zeros((records.count, *shape), dtype)
    labels = prepared_data.read_labels(records)
    return prepared_data.with_features(records, (features,), labels)


def measure(base, case, options):
    """Trains one case and returns its figures."""
    import tensorflow as tf

    from pipeline.augmentation.augmenter import build_augmenter
    from pipeline.loading.order import num_batches
    from trainer.training import loop
    from trainer.training.optimizer import make_optimizer
    from trainer.training.step import make_train_steps

    runtime, classifier, prefix = build(base, case, options)
    records = read(runtime, case, options, prefix)
    optimizer = make_optimizer(
        runtime,
        classifier,
        learning_rate=1e-3,
        momentum=0.9,
        schedule="constant",
        total_steps=10**6,
    )
    train_steps = make_train_steps(
        runtime,
        classifier,
        optimizer,
        build_augmenter(case.augment, xla=case.xla == "on"),
        train_batch_norm=case.regime == "full",
        frozen_prefix=prefix,
        precomputed=case.input == "features",
    )
    batches = loop.start_reading(
        runtime,
        records,
        image_size=options.image_size,
        batch_size=case.batch_size,
        epoch=1,
        seed=1,
    )
    steps = num_batches(records.count, case.batch_size)
    compile_seconds, seconds, waited, done = None, 0.0, 0.0, 0
    for epoch in itertools.count(1):
        for update in loop.train_epoch(
            train_steps, batches, steps=steps, epoch=epoch, seed=1
        ):
            if compile_seconds is None:
                compile_seconds = update.seconds
                continue
            seconds += update.seconds
            waited += update.waited_seconds
            done += len(update.losses)
        # The first epoch fills the caches, so it does not count.
        if epoch == 1:
            seconds, waited, done = 0.0, 0.0, 0
        elif seconds > options.seconds:
            break
    gpus = tf.config.list_logical_devices("GPU")
    memory = tf.config.experimental.get_memory_info("GPU:0") if gpus else {"peak": 0}
    return {
        "images a second": done * case.batch_size / seconds,
        "waited": waited / seconds,
        "first call, s": compile_seconds,
        "peak memory, MiB": memory["peak"] / 2**20,
    }


def describe_device():
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    return tf.config.experimental.get_device_details(gpus[0])["device_name"]


def load(path, header, device):
    """Returns case -> figures of an earlier run on this commit and device."""
    if not path.exists():
        return {}
    before = json.loads(path.read_text())
    if (before["header"]["commit"], before["device"]) != (header["commit"], device):
        return {}
    return {Case(**each["case"]): each["found"] for each in before["samples"]}


def save(path, header, device, options, found):
    """Writes the table and the figures; see tables.save."""
    rows = [
        [
            *(str(value) for value in dataclasses.astuple(case)),
            *(f"{each[name]:{form}}" for name, form in COLUMNS.items()),
        ]
        for case, each in found.items()
    ]
    result = {
        "about": (
            f"{options.backbone} at {options.image_size} px on one device: {device}. "
            f"Each case trained for {options.seconds:g} seconds after its first epoch."
        ),
        "device": device,
        "header": header,
        "columns": [field.name for field in dataclasses.fields(Case)] + list(COLUMNS),
        "rows": rows,
        "samples": [
            {"case": dataclasses.asdict(case), "found": each}
            for case, each in found.items()
        ],
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


COLUMNS = {
    "images a second": ".0f",
    "waited": ".1%",
    "first call, s": ".1f",
    "peak memory, MiB": ".0f",
}


def main(options):
    start = time.monotonic()
    sys.path.insert(0, str(tables.ROOT))
    import keras

    from trainer.distribution.runtime import set_up_runtime

    header, device = tables.describe_machine(), describe_device()
    options.has_gpu = device != "CPU"
    base = set_up_runtime(
        strategy="one_device",
        precision="float32",
        virtual_devices=1,
        batch_size=64,
        seed=1,
    )
    found = load(options.out, header, device)
    with tempfile.TemporaryDirectory() as options.folder:
        options.data = make_data(options.folder)
        for case in list_cases():
            if case in found:
                continue
            if time.monotonic() - start > 60 * options.minutes:
                print("The time is over; run the same command again to go on.")
                break
            found[case] = measure(base, case, options)
            save(options.out, header, device, options, found)
            print(case, found[case], flush=True)
            keras.backend.clear_session()
    print(tables.format_table(json.loads(options.out.read_text())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seconds", type=float, default=4, help="of each case")
    parser.add_argument("--backbone", default="ResNet50")
    parser.add_argument("--backbone_args", type=json.loads, default={})
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--out", type=pathlib.Path, default=tables.RESULTS / "gpu.json")
    main(parser.parse_args())
