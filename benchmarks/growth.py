"""How seconds and memory grow with the photographs and with the epochs.

`python benchmarks/growth.py PHOTOS WEIGHTS [SIZES]`; PHOTOS holds one folder a class,
WEIGHTS is a file for MobileNet with alpha 0.25, SIZES a comma-separated list of numbers
of photographs; the larger sets hold copies with changed pixels. Each run of
`python -m trainer.main --regimes=head` is a process of its own, from prepared data to
the evaluated head; the memory is the largest that was resident in it.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import preparation
import tables

RUNS = {
    "exact": {"cached_views": 0},
    "exact, images kept": {"cached_views": 0, "cache": "disk"},
    "1 view": {"cached_views": 1},
}
EPOCHS = (1, 4, 16)
MOST_IMAGES_AND_EPOCHS = 20_000  # what is computed anew in each epoch takes its time


def train(data, weights, out, epochs, settings):
    """One run; gives seconds up to the evaluated head, and mebibytes."""
    flags = {
        "data_dir": data,
        "model_dir": out,
        "backbone": "MobileNet",
        "backbone_args": "alpha=0.25",
        "weights": weights,
        "precision": "float32",
        "regimes": "head",
        "recipe": "notebook",
        "head_epochs": epochs,
        **settings,
    }
    start = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "trainer.main"),
            *(f"--{name}={value}" for name, value in flags.items()),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tables.ROOT,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("best on validation"):
            break
    seconds = time.monotonic() - start
    # What comes after is the export.
    process.terminate()
    process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    return {"seconds": seconds, "mebibytes": usage.ru_maxrss / 1024}


def main(photographs, weights, sizes):
    sys.path.insert(0, str(tables.ROOT))
    from pipeline import prepare

    header = tables.describe_machine()
    paths = preparation.list_files(photographs)
    samples, rows = [], []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            source, data = os.path.join(folder, "source"), os.path.join(folder, "data")
            preparation.grow(paths, size, source)
            prepare.prepare(source, data)
            for name, settings in RUNS.items():
                for epochs in EPOCHS:
                    most = max(size, MOST_IMAGES_AND_EPOCHS)
                    if name != "1 view" and size * epochs > most:
                        continue
                    out = pathlib.Path(folder, "run")
                    found = train(data, weights, str(out), epochs, settings)
                    subprocess.run(["rm", "-rf", str(out)], check=True)
                    found |= {"photographs": size, "epochs": epochs, "run": name}
                    print(json.dumps(found), flush=True)
                    samples.append(found)
        rows = [describe(found, samples) for found in samples]
        tables.save(
            "growth",
            about=(
                "The head regime on MobileNet (alpha 0.25, 224 px, float32), from "
                "prepared data to the evaluated head, one run each."
            ),
            header=header,
            columns=[
                "photographs",
                "epochs",
                "run",
                "seconds",
                "x one exact epoch",
                "MiB",
            ],
            rows=rows,
            samples=samples,
        )


def describe(found, samples):
    (one,) = [
        other["seconds"]
        for other in samples
        if (other["photographs"], other["epochs"], other["run"])
        == (found["photographs"], 1, "exact")
    ]
    return [
        f"{found['photographs']:,}",
        str(found["epochs"]),
        found["run"],
        f"{found['seconds']:.0f}",
        f"{found['seconds'] / one:.2f}",
        f"{found['mebibytes']:.0f}",
    ]


if __name__ == "__main__":
    given = sys.argv[3] if len(sys.argv) > 3 else "1000,4000,16000"
    main(sys.argv[1], sys.argv[2], [int(size) for size in given.split(",")])
