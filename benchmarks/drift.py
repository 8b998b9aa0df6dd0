"""False alarms and power of export.drift on real photographs.

`python benchmarks/drift.py PHOTOS WEIGHTS`; PHOTOS holds one folder a class, WEIGHTS is
a file of MobileNet's weights (alpha 0.25). Of each class 40 % train, 30 % validate and
30 % are the test. The two latter are held out. Each draw divides them at random: half
become the reference, as an export would write it; 50 or 200 of the others are the new
photographs, as they are or changed. Every answer is computed once, by the export.

The near duplicates among the held-out photographs are left out before, so that the
numbers of photographs are exact.
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
from PIL import Image, ImageEnhance, ImageFilter

from export.c_api.session import Session
from export.drift_check import answers, comparison, reference, two_sample

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def keep_last(fit):
    """Returns a function that remembers its last argument and result."""
    last = [None, None]

    def fit_or_repeat(embeddings):
        if last[0] is not embeddings:
            last[:] = embeddings, fit(embeddings)
        return last[1]

    return fit_or_repeat


COUNTS = (50, 200)
LIMITS = (0.05, 0.01)
NULL_DRAWS, POWER_DRAWS = 200, 50
# Fewer than the command has, for the time; the p-values are as exact.
two_sample.PERMUTATIONS = 999
# Most draws fit the components to the same photographs.
reference.fit_projection = keep_last(reference.fit_projection)
FITTED_TO_REFERENCE = "none, components fitted to the reference"
MISSING = "a class is missing"


def encode(image, quality=95):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def change_camera(image):
    """A warm cast, noise and fewer pixels."""
    pixels = np.asarray(image, np.float32) * (1.08, 1.0, 0.90)
    rng = np.random.default_rng(int(pixels.sum()) % 2**32)
    noisy = (pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)
    size = (round(0.75 * image.width), round(0.75 * image.height))
    return encode(Image.fromarray(noisy).resize(size, Image.Resampling.LANCZOS), 90)


CHANGES = {
    "JPEG quality 95": encode,
    "Gaussian blur, radius 2": lambda image: encode(
        image.filter(ImageFilter.GaussianBlur(2))
    ),
    "half as bright": lambda image: encode(ImageEnhance.Brightness(image).enhance(0.5)),
    "JPEG quality 20": lambda image: encode(image, 20),
    "another camera (simulated)": change_camera,
}


def write_split(photographs, path):
    """Writes the split as a CSV file; returns split -> paths."""
    paths_of = {"train": [], "validation": [], "test": []}
    rng = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for folder in sorted(each for each in photographs.iterdir() if each.is_dir()):
            names = rng.permutation(sorted(map(str, folder.glob("*.jpg"))))
            first, second = round(0.4 * len(names)), round(0.7 * len(names))
            parts = np.split(names, [first, second])
            for split, part in zip(paths_of, parts, strict=True):
                paths_of[split] += part.tolist()
                writer.writerows([name, folder.name, split] for name in part)
    return paths_of


def train(csv_path, weights, run_dir):
    """Trains and exports with the defaults, if need be; returns the version."""
    if not (run_dir / "summary.json").is_file():
        subprocess.run(
            [
                *(sys.executable, "-m", "trainer.main", f"--source=csv:{csv_path}"),
                *("--backbone=MobileNet", "--backbone_args=alpha=0.25"),
                *(f"--weights={weights}", f"--model_dir={run_dir}"),
            ],
            cwd=tables.ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    (version_dir,) = (each for each in run_dir.glob("export/*") if each.is_dir())
    return version_dir


def ask_for(ask, paths, change=None):
    def read(batch):
        images = [pathlib.Path(path).read_bytes() for path in batch]
        if change is None:
            return images
        return [change(Image.open(io.BytesIO(each)).convert("RGB")) for each in images]

    return answers.join(list(answers.ask_in_batches(ask, paths, read)))


def draw(plain, new, training, *, classes, seed, count, labels, change):
    """Compares one draw; returns test -> p-value, "overall" included."""
    rng = np.random.default_rng([seed, count])
    order = rng.permutation(len(labels))
    half = len(order) // 2
    chosen, rest = order[:half], order[half:]
    if change == MISSING:
        rest = rest[labels[rest] != classes[seed % len(classes)]]
    fitted_on = training
    if change == FITTED_TO_REFERENCE:
        fitted_on = plain.embeddings[chosen]
    made = reference.make_reference(plain.take(chosen), fitted_on, classes)
    part = new.take(rest[:count])
    assert len(part.decoded) == count
    tests = two_sample.adjust_holm(comparison.run_tests(made, part))
    return {"overall": min(tests.values()), **tests}


def share(p_values, limit):
    from scipy import stats

    found = sum(p < limit for p in p_values)
    ends = stats.binomtest(found, len(p_values)).proportion_ci(method="wilson")
    return f"{found / len(p_values):.3f} [{ends.low:.3f}, {ends.high:.3f}]"


def make_row(change, count, drawn):
    overall = [p_values["overall"] for p_values in drawn]
    found_by = ", ".join(
        f"{test} {np.mean([p_values[test] < LIMITS[1] for p_values in drawn]):.2f}"
        for test in drawn[0]
        if test != "overall"
    )
    shares = [share(overall, limit) for limit in LIMITS]
    return [change, str(count), str(len(drawn)), *shares, found_by]


def measure(version_dir, paths_of):
    """Returns (change, count) -> what draw() returned for each draw."""
    session = Session(str(version_dir))

    def ask(signature, images):
        return session.run(signature, {"image_bytes": np.array(images, object)})

    held_out = [*paths_of["validation"], *paths_of["test"]]
    training = answers.embed(
        ask, (pathlib.Path(path).read_bytes() for path in paths_of["train"])
    )
    plain = ask_for(ask, held_out)
    single = np.flatnonzero(~answers.find_near_duplicates(plain.hashes))
    labels = np.array([pathlib.Path(path).parent.name for path in held_out])[single]
    classes = sorted(set(labels))
    plain = plain.take(single)
    paths = [held_out[row] for row in single]
    drawn = {}
    for change in ("none", FITTED_TO_REFERENCE, *CHANGES, MISSING):
        new = ask_for(ask, paths, CHANGES[change]) if change in CHANGES else plain
        draws = NULL_DRAWS if change == "none" else POWER_DRAWS
        for count in COUNTS:
            drawn[change, count] = [
                draw(
                    plain,
                    new,
                    training,
                    classes=classes,
                    seed=seed,
                    count=count,
                    labels=labels,
                    change=change,
                )
                for seed in range(draws)
            ]
            print(make_row(change, count, drawn[change, count]), flush=True)
    session.close()
    return drawn, len(paths)


def main(photographs, weights, work_dir):
    header = tables.describe_machine("scikit-learn", "scipy")
    with tempfile.TemporaryDirectory() as temporary:
        folder = work_dir or pathlib.Path(temporary)
        paths_of = write_split(photographs, folder / "split.csv")
        version_dir = train(folder / "split.csv", weights, folder / "run")
        drawn, num_held_out = measure(version_dir, paths_of)
    tables.save(
        "drift",
        about=(
            f"MobileNet 0.25; {num_held_out} held-out photographs, half of them the "
            "reference of each draw; share of draws in which drift is found, with its "
            "95 % interval (Wilson), and the tests that find it, together with the "
            "others, at 0.01; 999 permutations."
        ),
        header=header,
        columns=[
            *("change", "new photographs", "draws"),
            *(f"p below {limit}" for limit in LIMITS),
            "found by",
        ],
        rows=[make_row(*key, drawn[key]) for key in drawn],
        samples={
            f"{change}, {count}": [round(each["overall"], 4) for each in each_draw]
            for (change, count), each_draw in drawn.items()
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("weights", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--work_dir", type=pathlib.Path, help="keeps the trained run")
    given = parser.parse_args()
    main(given.photographs, given.weights, given.work_dir)
