"""How well each recipe classifies from small folders, beside logistic regression.

`python benchmarks/recipes.py PHOTOS WEIGHTS`; PHOTOS holds one folder a class, WEIGHTS
is a file of MobileNet's weights (alpha 0.25). For each seed and number of photographs a
class, 80 % of the drawn photographs train and 10 % validate; all photographs that were
not drawn are the test, so that every figure stands on hundreds. Contestants, on the
same photographs:

- best: `python -m trainer.main` with its defaults, head and finetune.
- notebook: the same with --recipe=notebook.
- scikit-learn, Keras' guide, fastai: see recipe_peers.py. fastai runs only with
  --fastai_python, the interpreter of an environment with fastai (2.8) and PyTorch.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import recipe_peers
import tables

BACKBONE = ["--backbone=MobileNet", "--backbone_args=alpha=0.25"]
RECIPES = ("notebook", "best")
PEER = "scikit-learn"
# The trainer without its export, which measures nothing here.
TRAIN_ONLY = tables.ROOT / "tests" / "fakes" / "train_only.py"


def draw(names_by_class, count, seed):
    """Returns name -> split; `count` photographs of each class are drawn."""
    rng = np.random.default_rng([seed, count])
    split_of = {}
    for names in names_by_class.values():
        order = rng.permutation(len(names))
        held_out = max(1, round(0.1 * count))
        for rank, index in enumerate(order):
            if rank >= count:
                split = "test"
            elif rank < held_out:
                split = "validation"
            elif rank < 2 * held_out:
                continue  # What a user's own test split would have taken.
            else:
                split = "train"
            split_of[names[index]] = split
    return split_of


def write_csv(path, photographs, split_of):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for name, split in sorted(split_of.items()):
            label = name.split("/")[0]
            writer.writerow([os.path.join(photographs, name), label, split])


def run_ours(csv_path, weights, recipe):
    """Returns regime -> test accuracy."""
    with tempfile.TemporaryDirectory() as out:
        run_dir = pathlib.Path(out, "run")
        subprocess.run(
            [
                *(sys.executable, str(TRAIN_ONLY), *BACKBONE, f"--weights={weights}"),
                *(f"--source=csv:{csv_path}", f"--model_dir={run_dir}"),
                f"--recipe={recipe}",
            ],
            cwd=tables.ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        summary = json.loads((run_dir / "summary.json").read_text())
        return {name: summary[name]["test_accuracy"] for name in summary["regimes"]}


def main(photographs, weights, counts, *, num_seeds, fastai_python):
    header = tables.describe_machine("scikit-learn")
    folders = sorted(path for path in photographs.iterdir() if path.is_dir())
    names_by_class = {
        folder.name: sorted(f"{folder.name}/{p.name}" for p in folder.glob("*.jpg"))
        for folder in folders
    }
    names = [name for group in names_by_class.values() for name in group]
    features = recipe_peers.compute_features(photographs, names, weights)
    features_of = dict(zip(names, features, strict=True))
    found = {}
    rows = []
    for count in counts:
        figures = {PEER: []}
        for seed in range(num_seeds):
            split_of = draw(names_by_class, count, seed)
            figures[PEER].append(recipe_peers.scikit_learn(features_of, split_of))
            figures.setdefault("Keras' guide", []).append(
                recipe_peers.keras_guide(photographs, weights, split_of)
            )
            with tempfile.TemporaryDirectory() as folder:
                csv_path = pathlib.Path(folder, "split.csv")
                write_csv(csv_path, photographs, split_of)
                if fastai_python:
                    figures.setdefault("fastai", []).append(
                        recipe_peers.fastai(csv_path, weights, fastai_python)
                    )
                for recipe in RECIPES:
                    for regime, accuracy in run_ours(csv_path, weights, recipe).items():
                        figures.setdefault(f"{recipe}, {regime}", []).append(accuracy)
            latest = {name: round(values[-1], 4) for name, values in figures.items()}
            print(count, seed, latest, flush=True)
        found[str(count)] = figures
        rows += [make_row(count, name, figures) for name in figures]
        tables.save(
            "recipes",
            about=(
                f"MobileNet 0.25 at {recipe_peers.SIDE} px; accuracy on photographs "
                f"that were not drawn, mean over {num_seeds} draws; differences are "
                "paired by draw, with the 95 % interval of Student's t."
            ),
            header=header,
            columns=["photographs a class", "contestant", "accuracy", f"less {PEER}"],
            rows=rows,
            samples=found,
        )


def make_row(count, name, figures):
    from scipy import stats

    values, peers = figures[name], figures[PEER]
    difference = ""
    if name != PEER:
        pairs = [value - peer for value, peer in zip(values, peers, strict=True)]
        half = stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(pairs)
        mean = statistics.mean(pairs)
        difference = f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
    return [str(count), name, f"{statistics.mean(values):.3f}", difference]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("weights", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 40, 80, 160])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fastai_python")
    given = parser.parse_args()
    main(
        given.photographs,
        given.weights,
        given.counts,
        num_seeds=given.seeds,
        fastai_python=given.fastai_python,
    )
