"""How many images a second reach a batch on the CPU, and an augmented one.

`python benchmarks/input.py PHOTOS [TURNS]`; PHOTOS holds one folder a class. Batches of
64 at 224 px, the accelerator left out. Every contestant reads the same photographs in
an order of its own and is written as its documentation shows. The contestants take
turns: an epoch that is not timed, so that nothing lies ready, then two that are. `bare`
is what none can do without: the bytes are in memory, each is decoded and resized on all
cores, and nothing is shuffled, batched or handed to Python.

The photographs are taken as they are, and again enlarged to 1,280 px, as cameras make
them. PyTorch needs the extra `bench`; without it the table has a row less.
"""

import importlib.util
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import tables

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIDE, BATCH, SEED = 224, 64, 1
EPOCHS = 2
LARGE_SIDE = 1280
CORES = len(os.sched_getaffinity(0))


def bare(folder, data):
    import tensorflow as tf

    encoded = [path.read_bytes() for path in sorted(folder.glob("*/*.jpg"))]

    def decode(image_bytes):
        image = tf.io.decode_jpeg(image_bytes, channels=3)
        return tf.image.resize(image, (SIDE, SIDE))

    options = tf.data.Options()
    options.autotune.enabled = False
    images = tf.data.Dataset.from_tensor_slices(encoded)
    images = images.map(decode, num_parallel_calls=CORES, deterministic=False)
    return lambda: images.with_options(options).skip(len(encoded) - 1)


def image_data_generator(folder, data):
    import tensorflow as tf

    generator = tf.keras.preprocessing.image.ImageDataGenerator()
    return lambda: flow(generator, folder)


def image_data_generator_augmented(folder, data):
    import tensorflow as tf

    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        shear_range=0.2, zoom_range=0.2, horizontal_flip=True
    )
    return lambda: flow(generator, folder)


def flow(generator, folder):
    batches = generator.flow_from_directory(
        folder, target_size=(SIDE, SIDE), batch_size=BATCH
    )
    return (batches[index] for index in range(len(batches)))


def image_dataset_from_directory(folder, data):
    import keras
    import tensorflow as tf

    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=BATCH, seed=SEED, verbose=False
    )
    return lambda: images.prefetch(tf.data.AUTOTUNE)


def tfds_as_is(folder, data):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data)
    images = builder.as_dataset(split="train", shuffle_files=True)
    images = images.map(
        lambda example: (
            tf.image.resize(example["image"], (SIDE, SIDE)),
            example["label"],
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return lambda: images.shuffle(1000).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def torch_data_loader(folder, data):
    from torch.utils.data import DataLoader
    from torchvision import datasets
    from torchvision.transforms import v2

    shape = v2.Compose([v2.Resize((SIDE, SIDE)), v2.PILToTensor()])
    loader = DataLoader(
        datasets.ImageFolder(folder, shape),
        batch_size=BATCH,
        shuffle=True,
        num_workers=CORES,
        persistent_workers=True,
    )
    return lambda: loader


def ours(data, *, cached, augmented=False, decoded=False):
    import tensorflow as tf

    from pipeline.augmentation import counter_rng
    from pipeline.augmentation.augmenter import build_augmenter
    from pipeline.loading import order, prepared_data
    from pipeline.loading.dataset import make_train_dataset

    records = prepared_data.read_records(data, "train", cached=cached)
    if decoded:
        records = keep_decoded(records)
    change = build_augmenter("basic")

    @tf.function
    def augment_batch(batch):
        seeds = counter_rng.row_seeds(tf.constant([SEED, 0]), batch["position"])
        return change(batch["image"], seeds)

    # As the trainer reads: one iterator for all epochs.
    batches = iter(
        make_train_dataset(
            records,
            image_size=SIDE,
            batch_size=BATCH,
            epoch=1,
            seed=SEED,
        )
    )
    batches = map(augment_batch, batches) if augmented else batches
    steps = order.num_batches(records.count, BATCH)
    return lambda: itertools.islice(batches, steps)


def keep_decoded(records):
    """Returns the records with their decoded images, as --cache=disk keeps them."""
    from trainer.distribution.runtime import set_up_runtime
    from trainer.features.cache import cache_images
    from trainer.features.cache_dir import FeatureCache

    runtime = set_up_runtime(
        strategy="one_device",
        precision="float32",
        virtual_devices=1,
        batch_size=BATCH,
        seed=SEED,
    )
    with tempfile.TemporaryDirectory() as folder:
        return cache_images(
            runtime,
            FeatureCache(pathlib.Path(folder), 10**11, {}),
            records,
            split="train",
            image_size=SIDE,
            batch_size=BATCH,
        )


CONTESTANTS = {
    "bare decoding and resizing": bare,
    "ours, --cache=off": lambda folder, data: ours(data, cached=False),
    "ours, --cache=memory": lambda folder, data: ours(data, cached=True),
    "ours, --cache=disk": lambda folder, data: ours(data, cached=False, decoded=True),
    "TFDS as it is": tfds_as_is,
    "image_dataset_from_directory": image_dataset_from_directory,
    "PyTorch DataLoader": torch_data_loader,
    "ImageDataGenerator": image_data_generator,
    "ImageDataGenerator, augmented": image_data_generator_augmented,
    "ours, augmented": lambda folder, data: ours(data, cached=True, augmented=True),
}
BASELINES = {
    "bare decoding and resizing": "x bare",
    "ImageDataGenerator, augmented": "x the augmented generator",
}


def answer_turns(name, folder, data):
    """One contestant: a turn for each line on standard input."""
    sys.path.insert(0, str(tables.ROOT))
    make_epoch = CONTESTANTS[name](pathlib.Path(folder), data)
    for _ in sys.stdin:
        for epoch in range(1 + EPOCHS):
            if epoch == 1:
                start = time.monotonic()
            for _batch in make_epoch():
                pass
        # On the last line: some of them print.
        print(json.dumps((time.monotonic() - start) / EPOCHS), flush=True)


def start_contestant(name, folder, data):
    return subprocess.Popen(
        [sys.executable, __file__, "--answer", name, folder, data],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def take_turn(process):
    """Stopped afterwards: what it reads ahead would take the next one's time."""
    process.send_signal(signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    while True:
        line = process.stdout.readline()
        try:
            seconds = json.loads(line)
        except ValueError:
            if not line:
                raise SystemExit("a contestant ended early") from None
        else:
            process.send_signal(signal.SIGSTOP)
            return seconds


def enlarge(source, target):
    from PIL import Image

    for path in sorted(pathlib.Path(source).glob("*/*.jpg"))[::3]:
        to = pathlib.Path(target, path.parent.name, path.name)
        to.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            scale = LARGE_SIDE / max(image.size)
            size = [round(side * scale) for side in image.size]
            image.convert("RGB").resize(size).save(to, quality=90)


def measure(photographs, data, turns):
    """Name -> images a second, of each turn."""
    names = [
        name
        for name in CONTESTANTS
        if name != "PyTorch DataLoader" or importlib.util.find_spec("torchvision")
    ]
    from pipeline.loading import prepared_data

    counts = dict.fromkeys(names, len(list(pathlib.Path(photographs).glob("*/*.jpg"))))
    for name in names:
        if name.startswith("ours") or name.startswith("TFDS"):
            counts[name] = prepared_data.read_info(data).counts["train"]
    processes = {name: start_contestant(name, photographs, data) for name in names}
    found = {name: [] for name in names}
    for turn in range(-1, turns):
        for name, process in processes.items():
            seconds = take_turn(process)
            if turn >= 0:  # the first fills caches and compiles
                found[name].append(counts[name] / seconds)
    for process in processes.values():
        process.kill()
    return found


def main(photographs, turns):
    sys.path.insert(0, str(tables.ROOT))
    from pipeline import prepare

    has_torch = importlib.util.find_spec("torchvision")
    header = tables.describe_machine(*(["torch", "torchvision"] if has_torch else []))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        large = os.path.join(folder, "large")
        enlarge(photographs, large)
        for size, source in (("as they are", photographs), ("1,280 px", large)):
            data = os.path.join(folder, f"data {size}")
            prepare.prepare(source, data, seed=SEED)
            found[size] = measure(source, data, turns)
    rows = [
        [
            size,
            name,
            tables.spread(rates, 0),
            *(
                tables.spread(
                    [a / b for a, b in zip(rates, group[baseline], strict=True)], 2
                )
                for baseline in BASELINES
            ),
        ]
        for size, group in found.items()
        for name, rates in group.items()
    ]
    tables.save(
        "input",
        about=(
            f"Batches of {BATCH} at {SIDE} px on the CPU; {turns} interleaved turns of "
            f"{EPOCHS} epochs after one that is not timed, median and in brackets "
            "smallest and largest, ratios within a turn."
        ),
        header=header,
        columns=["photographs", "contestant", "images/s", *BASELINES.values()],
        rows=rows,
        samples=found,
    )


if __name__ == "__main__":
    if sys.argv[1] == "--answer":
        answer_turns(*sys.argv[2:])
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
