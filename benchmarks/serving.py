"""What an export costs to serve, against Keras's own export and a plain one of bytes.

`python benchmarks/serving.py PHOTOS [BACKBONE] [REPEATS]`; PHOTOS holds one folder a
class, BACKBONE may have arguments: `MobileNet,alpha=0.25`. Each export is loaded by
TensorFlow's C API in a process of its own, as a server does, XLA off. The processes
stay, and each of their turns comes after another's; the figures are medians, in
brackets the smallest and the largest. Keras's export takes pixels and is spared the
decoding, as our signature for pixels is; the others take JPEG bytes.

`python benchmarks/serving.py --load PHOTOS [BACKBONE] [REPEATS]`: see serving_load.py.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import serving_exports
import serving_load
import tables
from serving_exports import BATCH, SIDE

LOADS = 5
# name -> export, signature, input
CONTESTANTS = {
    "`model.export()`, pixels": ("keras", "serving_default", "floats"),
    "ours, float32, pixels": ("ours_float32", "predict_pixels", "pixels"),
    "bytes and `map_fn`": ("naive", "serving_default", "photographs"),
    "ours, float32": ("ours_float32", "serving_default", "photographs"),
    "ours, bfloat16": ("ours_bfloat16", "serving_default", "photographs"),
}
BASELINE = next(iter(CONTESTANTS))


def resident_mebibytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def answer_turns(saved_model_dir, signature, inputs_path):
    """One contestant: loads, then runs a request for each line on standard input."""
    import numpy as np

    from export.c_api.library import load_library
    from export.c_api.session import Session

    inputs = np.load(inputs_path, allow_pickle=True)
    load_library()
    before = resident_mebibytes()
    start = time.monotonic()
    model = Session(saved_model_dir)
    (key,) = model.signatures[signature].inputs

    def report(start):
        seconds = time.monotonic() - start
        growth = resident_mebibytes() - before
        print(json.dumps({"seconds": seconds, "growth": growth}), flush=True)

    report(start)
    for line in sys.stdin:
        start = time.monotonic()
        model.run(signature, {key: inputs[: int(line)]})
        report(start)


def start_contestant(folder, name):
    """The process, and what loading took."""
    export, signature, inputs = CONTESTANTS[name]
    paths = [os.path.join(folder, export), os.path.join(folder, f"{inputs}.npy")]
    process = subprocess.Popen(
        [sys.executable, __file__, "--answer", paths[0], signature, paths[1]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )
    return process, json.loads(process.stdout.readline())


def take_turn(process, size):
    process.stdin.write(f"{size}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def disk_mebibytes(folder):
    files = [p for p in pathlib.Path(folder).rglob("*") if p.is_file()]
    # Photographs for the warm-up are no part of a model.
    files = [p for p in files if p.parent.name != "assets.extra"]
    return sum(p.stat().st_size for p in files) / 2**20


def main(photographs, backbone, repeats):
    header = tables.describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, serving_exports.__file__, backbone, folder],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        serving_exports.write_inputs(photographs, folder)
        turns = {name: {"load": [], "first": []} for name in CONTESTANTS}
        processes = {}
        for turn in range(LOADS):
            for name in CONTESTANTS:
                process, load = start_contestant(folder, name)
                turns[name]["load"].append(load)
                turns[name]["first"].append(take_turn(process, 1))
                processes.setdefault(name, process)
                if turn:
                    process.kill()
        for size in (1, BATCH):
            for name, process in processes.items():
                take_turn(process, size)  # the first of a size plans its memory
                turns[name][size] = []
            for _ in range(repeats):
                for name, process in processes.items():
                    turns[name][size].append(take_turn(process, size))
        for process in processes.values():
            process.kill()
        disk = {
            name: disk_mebibytes(os.path.join(folder, export))
            for name, (export, *_) in CONTESTANTS.items()
        }
    rows = []
    for name, found in turns.items():
        seconds = {k: [turn["seconds"] for turn in each] for k, each in found.items()}
        growth = [
            f"{statistics.median(turn['growth'] for turn in found[key]):.0f}"
            for key in ("load", "first", BATCH)
        ]
        # A ratio of neighbours in time: both had the machine as it was then.
        ratios = [
            other["seconds"] / own
            for other, own in zip(turns[BASELINE][BATCH], seconds[BATCH], strict=True)
        ]
        rows.append(
            [
                name,
                tables.spread(seconds["load"]),
                tables.spread(seconds["first"]),
                tables.spread([1e3 * each for each in seconds[1]]),
                tables.spread([BATCH / each for each in seconds[BATCH]]),
                tables.spread(ratios, 2),
                " / ".join(growth),
                f"{disk[name]:.1f}",
            ]
        )
    tables.save(
        "serving",
        about=(
            f"{backbone} at {SIDE} px by TensorFlow's C API, XLA off; {repeats} "
            "interleaved turns, median and in brackets smallest and largest, ratios "
            "within a turn. Pixels are decoded and of the right size already, the "
            "others are JPEG bytes. Growth is that of the process once loaded, after "
            f"the first request and after batches of {BATCH}."
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
        samples=turns,
    )


if __name__ == "__main__":
    if sys.argv[1] == "--answer":
        answer_turns(*sys.argv[2:])
    elif sys.argv[1] == "--load":
        given = dict(enumerate(sys.argv[3:]))
        serving_load.measure(
            sys.argv[2], given.get(0, "ResNet50"), int(given.get(1, 5))
        )
    else:
        given = dict(enumerate(sys.argv[2:]))
        main(sys.argv[1], given.get(0, "ResNet50"), int(given.get(1, 9)))
