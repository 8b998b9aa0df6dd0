"""From a folder of photographs to a trained and evaluated classifier: who is quickest.

`python benchmarks/time_to_result.py PHOTOS WEIGHTS`; PHOTOS holds one folder a class,
WEIGHTS is a file of the backbone's weights. Each contestant runs in a process of its
own, in turn, from the start of Python to the end: the same split, weights, head, rates
and number of epochs, batches of 64, the best epoch's weights kept, validation and test
evaluated. The peers are written as their documentation shows; they are spared the audit
and the search for near duplicates, and get the folders of the split ready made.

- ImageDataGenerator: the notebook's way, `flow_from_directory` and `model.fit`.
- image_dataset_from_directory: the Keras tutorial's way, decoded images cached, the
  augmentation as the first layers of the model.
- ours: `python -m trainer.main`, from the same folder, preparation included, up to the
  line that says which regime is best. Its report and its export come after that.

A regime's seconds run from the model that is built to its best weights, what is
computed once for later epochs included.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import tables
from keras_peers import PEERS, SEED, SIDE

FLOAT32, BFLOAT16 = {"precision": "float32"}, {"precision": "mixed_bfloat16"}
OURS = {
    "ours, 2 views": {"cached_views": 2, **FLOAT32},
    "ours, 2 views, bfloat16": {"cached_views": 2, **BFLOAT16},
    "ours, head alone, 1 view": {"cached_views": 1, "regimes": "head", **FLOAT32},
    "ours, head alone, 1 view, bfloat16": {
        **{"cached_views": 1, "regimes": "head"},
        **BFLOAT16,
    },
    "ours, exact": {"cached_views": 0, **FLOAT32},
}
BASELINE = "ImageDataGenerator"
# The line that the trainer prints once everything is evaluated.
EVALUATED = "best on validation"


def run_ours(name, options, out):
    settings = {
        "recipe": "notebook",
        "source": options.photographs,
        "model_dir": os.path.join(out, "run"),
        "backbone": options.backbone,
        "weights": options.weights,
        "freeze_layers": options.freeze_layers,
        "head_epochs": options.head_epochs,
        "finetune_epochs": options.finetune_epochs,
        "finetune_lr": options.finetune_lr,
        "seed": SEED,
        **OURS[name],
    }
    arguments = json.loads(options.backbone_args)
    if arguments:
        pairs = (f"{key}={value}" for key, value in arguments.items())
        settings["backbone_args"] = ",".join(pairs)
    run_dir = pathlib.Path(settings["model_dir"])
    times = run_in_a_process(
        ["-m", "trainer.main", *(f"--{key}={v}" for key, v in settings.items())],
        os.path.join(out, "log.txt"),
    )
    summary = json.loads((run_dir / "summary.json").read_text())
    # config.json is written when training begins, a regime's weights when it ends.
    begun = (run_dir / "config.json").stat().st_mtime
    (weights,) = run_dir.rglob("head.best.weights.h5")
    found = {"test": summary["test"]["accuracy"], "seconds": times[EVALUATED]}
    found["head_seconds"] = weights.stat().st_mtime - begun
    for regime in summary["regimes"]:
        found[f"{regime}_validation"] = summary[regime]["val_accuracy"]
    return found


def run_peer(name, options, folder, out):
    arguments = [
        f"--{key}={value}"
        for key, value in vars(options).items()
        if value is not None and key not in ("photographs", "weights")
    ]
    log = os.path.join(out, "log.txt")
    command = [__file__, options.photographs, options.weights, *arguments]
    times = run_in_a_process(
        [*command, f"--run={name}", f"--folder={folder}", f"--out={out}"], log
    )
    found = json.loads(pathlib.Path(log).read_text().splitlines()[-1])
    return {**found, "seconds": times["end"]}


def run_in_a_process(arguments, log):
    """Runs Python; gives the seconds from its start to EVALUATED and to the end."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tables.ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )
    times = {}
    with open(log, "w") as file:
        for line in process.stdout:
            file.write(line)
            if line.startswith(EVALUATED):
                times[EVALUATED] = time.monotonic() - start
    if process.wait():
        raise SystemExit(pathlib.Path(log).read_text()[-4000:])
    times["end"] = time.monotonic() - start
    return times


def write_splits(photographs, folder):
    """Copies the photographs into one folder a split, by our own split."""
    sys.path.insert(0, str(tables.ROOT))
    from pipeline import prepare
    from pipeline.splits.assign import SplitPlan

    data = folder / "data"
    prepare.prepare(photographs, str(data), plan=SplitPlan(seed=SEED))
    with open(data / "splits.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] not in ("train", "validation", "test"):
                continue
            target = folder / row["split"] / row["name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pathlib.Path(photographs, row["name"]), target)
    shutil.rmtree(data)


def compare(options):
    names = [BASELINE, *OURS, *(name for name in PEERS if name != BASELINE)]
    found = {name: [] for name in names}
    header = tables.describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        write_splits(options.photographs, pathlib.Path(folder))
        for turn in range(options.rounds):
            for name in names:
                with tempfile.TemporaryDirectory() as out:
                    if name in PEERS:
                        figures = run_peer(name, options, folder, out)
                    else:
                        figures = run_ours(name, options, out)
                print(turn, name, json.dumps(figures), flush=True)
                found[name].append(figures)
                report(options, header, {n: runs for n, runs in found.items() if runs})


def report(options, header, found):
    rows = []
    for name, runs in found.items():
        row = [name]
        whole = "finetune_validation" in runs[0]
        for key in ("head_seconds", "seconds"):
            if key == "seconds" and not whole:
                row += ["", ""]
                continue
            ratios = [
                peer[key] / own[key]
                for peer, own in zip(found[BASELINE], runs, strict=False)
            ]
            row += [
                tables.spread([run[key] for run in runs], 0),
                tables.spread(ratios, 2),
            ]
        for key in ("head_validation", "finetune_validation", "test"):
            known = whole or key == "head_validation"
            figures = [run[key] for run in runs] if known else []
            row.append(f"{statistics.mean(figures):.3f}" if known else "")
        rows.append(row)
    about = (
        f"{options.backbone} at {SIDE} px, {options.head_epochs} epochs of the head "
        f"and {options.finetune_epochs} of finetune, "
        f"{options.freeze_layers} layers frozen; "
        f"{len(found[next(iter(found))])} interleaved round(s), median and in brackets "
        "smallest and largest, ratios within a round."
    )
    tables.save(
        options.name,
        about=about,
        header=header,
        columns=[
            "contestant",
            "head regime, s",
            "times as fast",
            "whole job, s",
            "times as fast",
            "accuracy: validation, head",
            "validation, finetune",
            "test",
        ],
        rows=rows,
        samples=found,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs")
    parser.add_argument("weights")
    parser.add_argument("--backbone", default="ResNet50")
    parser.add_argument("--backbone_args", default="{}", help="JSON")
    parser.add_argument("--freeze_layers", type=int, default=140)
    parser.add_argument("--head_epochs", type=int, default=5)
    parser.add_argument("--finetune_epochs", type=int, default=10)
    parser.add_argument("--finetune_lr", type=float, default=0.001)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="time_to_result", help="of the result")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        PEERS[given.run](pathlib.Path(given.folder), given)
    else:
        compare(given)
