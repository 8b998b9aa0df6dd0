"""What an export costs to serve, against Keras's own export and a plain one of bytes.

`python benchmarks/serving.py PHOTOS [BACKBONE] [REPEATS]`; PHOTOS holds one folder a
class. Each export is loaded by TensorFlow's C API in a process of its own, as a server
does, XLA off. The processes stay, and each of their turns comes after another's; the
figures are medians, in brackets the smallest and the largest. Keras's export takes
pixels, so it is spared the decoding; the others take JPEG bytes.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import tables

SIDE = 224
CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")
BATCH = 32
NAMES = {
    "keras": "`model.export()`",
    "naive": "bytes and `map_fn`",
    "ours_float32": "ours, float32",
    "ours_bfloat16": "ours, bfloat16",
}


def make_exports(backbone_name, out):
    """Writes the four SavedModels; random weights compute as fast as any."""
    import keras
    import tensorflow as tf

    from export import saved_model
    from pipeline import preprocess, sample
    from trainer import fold, model

    keras.utils.set_random_seed(1)
    backbone = model.build_backbone(backbone_name, {}, image_size=SIDE)
    classifier = model.build_classifier(
        backbone,
        backbone_name,
        num_classes=len(CLASSES),
        pooling="avg",
        head_units=128,
        dropout=0.2,
    )
    drawn = [
        preprocess.decode_and_resize(tf.constant(sample.draw_jpeg(label, index)), SIDE)
        for label in sample.CLASSES
        for index in range(3)
    ]
    model.calibrate_batch_norm(classifier, tf.stack(drawn))
    classifier.model.export(os.path.join(out, "keras"), verbose=False)

    module = tf.Module()
    module.weights = [weight.value for weight in classifier.model.weights]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def naive(image_bytes):
        def decode(one):
            pixels = tf.io.decode_jpeg(one, channels=3)
            return tf.image.resize(pixels, (SIDE, SIDE))

        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32)
        images = tf.ensure_shape(images, [None, SIDE, SIDE, 3])
        return {"probabilities": tf.nn.softmax(classifier.model(images))}

    tf.saved_model.save(
        module, os.path.join(out, "naive"), signatures={"serving_default": naive}
    )
    for precision in ("float32", "bfloat16"):
        folded = fold.fold_batch_norm(classifier.backbone, precision=precision).model
        served = model.assemble(classifier.normalise, folded, classifier.head)
        saved_model.write_saved_model(
            pathlib.Path(out, f"ours_{precision}"), served, CLASSES, image_size=SIDE
        )


def resident_mebibytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def answer_turns(saved_model_dir, pixels_path, photographs_path):
    """One contestant: loads, then runs a request for each line on standard input."""
    import numpy as np

    from export import session

    session.load_library()
    before = resident_mebibytes()
    start = time.monotonic()
    model = session.Session(saved_model_dir)
    loaded = time.monotonic() - start
    (key,) = model.signatures["serving_default"].inputs
    if key == "image_bytes":
        encoded = np.load(photographs_path, allow_pickle=True)
    else:
        encoded = np.load(pixels_path)

    def run(size):
        start = time.monotonic()
        model.run("serving_default", {key: encoded[:size]})
        return time.monotonic() - start

    first = run(1)
    print(json.dumps({"load": loaded, "first": first}), flush=True)
    for line in sys.stdin:
        seconds = run(int(line))
        growth = resident_mebibytes() - before
        print(json.dumps({"seconds": seconds, "growth": growth}), flush=True)


def start_contestant(saved_model_dir, *paths):
    return subprocess.Popen(
        [sys.executable, __file__, "--answer", saved_model_dir, *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )


def take_turn(process, size):
    process.stdin.write(f"{size}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def disk_mebibytes(folder):
    files = [p for p in pathlib.Path(folder).rglob("*") if p.is_file()]
    # Photographs for the warm-up are no part of a model.
    files = [p for p in files if p.parent.name != "assets.extra"]
    return sum(p.stat().st_size for p in files) / 2**20


def write_inputs(photographs, folder):
    import numpy as np
    from PIL import Image

    paths = sorted(pathlib.Path(photographs).glob("*/*.jpg"))
    paths = paths[:: max(1, len(paths) // BATCH)][:BATCH]
    encoded = np.empty(len(paths), object)
    encoded[:] = [path.read_bytes() for path in paths]
    pixels = [
        np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE)), np.float32)
        for path in paths
    ]
    names = [os.path.join(folder, name) for name in ("pixels.npy", "photographs.npy")]
    np.save(names[0], np.stack(pixels))
    np.save(names[1], encoded, allow_pickle=True)
    return names


def main(photographs, backbone, repeats):
    header = tables.describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, __file__, "--make", backbone, folder],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        inputs = write_inputs(photographs, folder)
        names = list(NAMES)
        loads = {name: [] for name in names}
        for _ in range(3):
            for name in names:
                process = start_contestant(os.path.join(folder, name), *inputs)
                loads[name].append(json.loads(process.stdout.readline()))
                process.kill()
        processes = {}
        for name in names:
            processes[name] = start_contestant(os.path.join(folder, name), *inputs)
            processes[name].stdout.readline()
        turns = {(name, size): [] for name in names for size in (1, BATCH)}
        for size in (1, BATCH):
            for name in names:  # the first of a size plans its memory
                take_turn(processes[name], size)
            for _ in range(repeats):
                for name in names:
                    turns[name, size].append(take_turn(processes[name], size))
        for process in processes.values():
            process.kill()
        disk = {name: disk_mebibytes(os.path.join(folder, name)) for name in names}
    rows = []
    for name in names:
        many = [turn["seconds"] for turn in turns[name, BATCH]]
        # A ratio of neighbours in time: both had the machine as it was then.
        ratios = [
            other["seconds"] / own
            for other, own in zip(turns["keras", BATCH], many, strict=True)
        ]
        growth = max(turn["growth"] for turn in turns[name, BATCH])
        ones = [1e3 * turn["seconds"] for turn in turns[name, 1]]
        rows.append(
            [
                NAMES[name],
                tables.spread([one["load"] for one in loads[name]]),
                tables.spread([one["first"] for one in loads[name]]),
                tables.spread(ones),
                tables.spread([BATCH / seconds for seconds in many]),
                tables.spread(ratios, 2),
                f"{growth:.0f}",
                f"{disk[name]:.1f}",
            ]
        )
    samples = {f"{name}, batch {size}": found for (name, size), found in turns.items()}
    tables.save(
        "serving",
        about=(
            f"{backbone} at {SIDE} px by TensorFlow's C API, XLA off; {repeats} "
            "interleaved turns, median and in brackets smallest and largest, ratios "
            "within a turn. Keras's export takes decoded pixels, the others JPEG bytes."
        ),
        header=header,
        columns=[
            "export",
            "load, s",
            "first request, s",
            "batch 1, ms",
            "batch 32, images/s",
            "x Keras",
            "resident growth, MiB",
            "on disk, MiB",
        ],
        rows=rows,
        samples={"loads": loads, **samples},
    )


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make_exports(*sys.argv[2:])
    elif sys.argv[1] == "--answer":
        answer_turns(*sys.argv[2:])
    else:
        given = dict(enumerate(sys.argv[2:]))
        main(sys.argv[1], given.get(0, "ResNet50"), int(given.get(1, 9)))
