"""How well each score tells photographs of unknown classes from known ones.

`python benchmarks/unknown.py PHOTOS WEIGHTS`; PHOTOS holds one folder a class, WEIGHTS
is a file of MobileNet's weights (alpha 0.25). Each class is left out in turn: a run
with the defaults of trainer.main learns the others, from 120 photographs a class, and
20 a class validate. Known are the photographs of these classes that nobody has seen;
unknown are all photographs of the class that was left out, and drawings of the kinds
in trainer.embedded.

Each score is fitted on the pooled features and logits of the training photographs and
is higher for an unknown photograph. With --features FILE, an npz of `names` and pooled
`features` of a frozen backbone, the classifier is a logistic regression on them; TITLE
names the backbone. --work_dir keeps what the runs gave.
"""

import argparse
import csv
import io
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tables
import unknown_scores

TRAIN, VALIDATION = 120, 20
BACKBONE = ["--backbone=MobileNet", "--backbone_args=alpha=0.25"]
TRAIN_ONLY = tables.ROOT / "tests" / "fakes" / "train_only.py"
UNKNOWN_RATE = 0.05


def split_names(photographs, left_out):
    """Returns split -> [(name, label)] of the other classes, shuffled by seed 0."""
    splits = {"train": [], "validation": [], "test": []}
    folders = sorted(path.name for path in photographs.iterdir() if path.is_dir())
    for label in folders:
        names = sorted(f"{label}/{p.name}" for p in (photographs / label).glob("*.jpg"))
        if label == left_out:
            splits["unknown"] = [(name, label) for name in names]
            continue
        order = np.random.default_rng(0).permutation(len(names))
        for rank, index in enumerate(order):
            split = "test"
            if rank < TRAIN + VALIDATION:
                split = "train" if rank < TRAIN else "validation"
            splits[split].append((names[index], label))
    return splits


def train(photographs, splits, weights, folder):
    """Trains a run and returns (config, classifier)."""
    from trainer.training import run_dir

    csv_path, model_dir = folder / "split.csv", folder / "run"
    with open(csv_path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for split in ("train", "validation", "test"):
            for name, label in splits[split]:
                writer.writerow([photographs / name, label, split])
    subprocess.run(
        [
            *(sys.executable, str(TRAIN_ONLY), *BACKBONE, f"--weights={weights}"),
            *(f"--source=csv:{csv_path}", f"--model_dir={model_dir}"),
        ],
        cwd=tables.ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    config, classes, regime = run_dir.read_run(model_dir)
    return config, run_dir.restore_classifier(config, classes, model_dir, regime)


def draw_unrelated():
    """Returns 208 JPEG files, four of each kind of the embedded weights' drawings."""
    from trainer.embedded import drawn_things

    encoded = []
    for index in range(4):
        for kind in sorted(drawn_things.KINDS):
            buffer = io.BytesIO()
            drawn_things.draw_thing(kind, index, seed=0).save(
                buffer, "JPEG", quality=95
            )
            encoded.append(buffer.getvalue())
    return encoded


def compute_outputs(config, classifier, encoded):
    """Returns the pooled features float32 [N, D] and the logits float32 [N, K]."""
    import tensorflow as tf

    from pipeline import decoding
    from trainer.models.classifier import compute_embedding, compute_logits

    @tf.function(autograph=False)
    def compute(images):
        return (
            compute_embedding(classifier, images),
            compute_logits(classifier, images),
        )

    parts = []
    for start in range(0, len(encoded), 50):
        images = [
            decoding.decode_and_resize(tf.constant(each), config.image_size)
            for each in encoded[start : start + 50]
        ]
        parts.append([part.numpy() for part in compute(tf.stack(images))])
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def run_fold(photographs, weights, left_out):
    """Returns split -> (features, logits, labels) of one left-out class."""
    splits = split_names(photographs, left_out)
    classes = sorted({label for _, label in splits["train"]})
    with tempfile.TemporaryDirectory() as folder:
        config, classifier = train(photographs, splits, weights, pathlib.Path(folder))
        outputs = {}
        for split, rows in splits.items():
            encoded = [(photographs / name).read_bytes() for name, _ in rows]
            labels = [classes.index(k) if k in classes else -1 for _, k in rows]
            found = compute_outputs(config, classifier, encoded)
            outputs[split] = (*found, np.array(labels))
        drawn = compute_outputs(config, classifier, draw_unrelated())
    return outputs | {"drawn": (*drawn, np.full(len(drawn[0]), -1))}


def read_or_run_fold(photographs, weights, left_out, work_dir):
    """Does the same, once for each work_dir."""
    if work_dir is None:
        return run_fold(photographs, weights, left_out)
    path = work_dir / f"{left_out}.npz"
    if not path.is_file():
        outputs = run_fold(photographs, weights, left_out)
        parts = {f"{k}{i}": v for k, vs in outputs.items() for i, v in enumerate(vs)}
        np.savez(path, **parts)
    with np.load(path) as stored:
        splits = sorted({key[:-1] for key in stored})
        return {k: tuple(stored[f"{k}{i}"] for i in range(3)) for k in splits}


def run_frozen_fold(photographs, features_of, left_out):
    """Returns the same of a logistic regression on features of a frozen backbone."""
    from sklearn.linear_model import LogisticRegression

    splits = split_names(photographs, left_out)
    classes = sorted({label for _, label in splits["train"]})
    labels = {
        split: np.array([classes.index(k) if k in classes else -1 for _, k in rows])
        for split, rows in splits.items()
    }
    features = {
        split: np.stack([features_of[name] for name, _ in rows])
        for split, rows in splits.items()
    }
    scale = features["train"].std()
    features = {split: each / scale for split, each in features.items()}
    model = LogisticRegression(C=0.1, max_iter=500)
    model.fit(features["train"], labels["train"])
    return {
        split: (features[split], model.decision_function(features[split]), k)
        for split, k in labels.items()
    }


def measure(outputs):
    """Returns score -> (AUROC flower, AUROC drawn, flagged known, flagged flower)."""
    from sklearn.metrics import roc_auc_score

    figures = {}
    for name, fit in unknown_scores.SCORES.items():
        score = fit(*outputs["train"])
        known = score(*outputs["test"][:2])
        limit = np.quantile(
            score(*outputs["validation"][:2]), 1 - UNKNOWN_RATE, method="higher"
        )
        row = []
        for split in ("unknown", "drawn"):
            if split not in outputs:
                row.append(float("nan"))
                continue
            strange = score(*outputs[split][:2])
            truth = np.repeat([0, 1], [len(known), len(strange)])
            row.append(float(roc_auc_score(truth, np.concatenate([known, strange]))))
            if split == "unknown":
                flagged = float((strange > limit).mean())
        figures[name] = [*row, float((known > limit).mean()), flagged]
    return figures


def mean_and_interval(values):
    from scipy import stats

    mean = np.mean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def main(photographs, weights, features_path, *, title, work_dir):
    header = tables.describe_machine("scikit-learn")
    sys.path.insert(0, str(tables.ROOT))
    flowers = sorted(path.name for path in photographs.iterdir() if path.is_dir())
    samples = {}
    for left_out in flowers:
        outputs = read_or_run_fold(photographs, weights, left_out, work_dir)
        samples[left_out] = measure(outputs)
        for name, row in samples[left_out].items():
            print(left_out, name, [round(value, 3) for value in row], flush=True)
    frozen = {}
    if features_path:
        stored = np.load(features_path)
        features_of = dict(zip(stored["names"], stored["features"], strict=True))
        for left_out in flowers:
            outputs = run_frozen_fold(photographs, features_of, left_out)
            frozen[left_out] = measure(outputs)
    save(samples, frozen, header, title)


def save(samples, frozen, header, title):
    rows = [make_row(name, samples, frozen) for name in unknown_scores.SCORES]
    tables.save(
        "unknown",
        about=(
            "Area under the ROC curve of each score, known against unknown: each "
            "class left out in turn, mean over the classes with the 95 % interval of "
            "Student's t. Flagged: at a limit that flags 5 % of the validation."
        ),
        header=header,
        columns=[
            "score",
            "left-out class",
            "drawings",
            "flagged known",
            "flagged left-out",
            f"left-out class, frozen {title}",
        ],
        rows=rows,
        samples={"finetuned": samples, "frozen": frozen},
    )


def make_row(name, samples, frozen):
    columns = [[fold[name][i] for fold in samples.values()] for i in range(4)]
    last = "not measured"
    if frozen:
        last = mean_and_interval([fold[name][0] for fold in frozen.values()])
    return [name, *(mean_and_interval(values) for values in columns), last]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("weights", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--features", help="npz of a frozen backbone's features")
    parser.add_argument("--title", default="ResNet50", help="that backbone's name")
    parser.add_argument("--work_dir", type=pathlib.Path)
    given = parser.parse_args()
    main(
        given.photographs,
        given.weights,
        given.features,
        title=given.title,
        work_dir=given.work_dir,
    )
