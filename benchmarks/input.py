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
import os
import pathlib
import sys
import tempfile
import time

import tables
import turns
from input_contestants import BASELINES, BATCH, CONTESTANTS, SIDE

EPOCHS = 2
LARGE_SIDE = 1280


def answer_turns(name, folder, data):
    """One contestant: measures the seconds of an epoch."""
    sys.path.insert(0, str(tables.ROOT))
    make_epoch = CONTESTANTS[name](pathlib.Path(folder), data)

    def measure():
        for epoch in range(1 + EPOCHS):
            if epoch == 1:
                start = time.monotonic()
            for _batch in make_epoch():
                pass
        return (time.monotonic() - start) / EPOCHS

    turns.answer(measure)


def enlarge(source, target):
    from PIL import Image

    for path in sorted(pathlib.Path(source).glob("*/*.jpg"))[::3]:
        to = pathlib.Path(target, path.parent.name, path.name)
        to.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            scale = LARGE_SIDE / max(image.size)
            size = [round(side * scale) for side in image.size]
            image.convert("RGB").resize(size).save(to, quality=90)


def measure(photographs, data, num_turns):
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
    processes = {name: turns.start(__file__, name, photographs, data) for name in names}
    found = {name: [] for name in names}
    for turn in range(-1, num_turns):
        for name, process in processes.items():
            seconds = turns.take_turn(process)
            if turn >= 0:  # the first fills caches and compiles
                found[name].append(counts[name] / seconds)
    for process in processes.values():
        turns.stop(process)
    return found


def main(photographs, num_turns):
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
            prepare.prepare(source, data)
            found[size] = measure(source, data, num_turns)
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
            f"Batches of {BATCH} at {SIDE} px on the CPU; {num_turns} interleaved "
            f"turns of {EPOCHS} epochs after one that is not timed, median and in "
            "brackets smallest and largest, ratios within a turn."
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
