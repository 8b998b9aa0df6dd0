"""How often a server answers otherwise for raw bytes of a transparent photograph.

`python benchmarks/transparency.py PHOTOS WEIGHTS`; PHOTOS holds one folder a class,
WEIGHTS are a file of MobileNet with alpha 0.25, without the classification layer. An
ellipse of each photograph stays visible: half as wide and half as high, or up to 0.9
times, at a random place. The preparation stores it on a background. A program that cut
it out left the photograph behind the transparent pixels, or black, or white.

A logistic regression on the pooled features is fitted on photographs as they are
stored. It answers for the photographs of another fold, with near duplicates in one
fold: as export.client sends them, and as raw bytes, whose alpha channel the decoder
drops. Disagreement: the label differs.
"""

import io
import pathlib
import sys

import label_issues
import numpy as np
import tables
from PIL import Image, ImageDraw

SIDE = 224
FOLDS = 5
BACKGROUNDS = ("white", "black", "mean")
# What is left in the transparent pixels.
HIDDEN = {"the photograph": None, "black": (0, 0, 0), "white": (255, 255, 255)}


def cut_out(photograph, hidden, rng):
    """Returns an RGBA image, transparent outside of an ellipse."""
    width, height = (side * rng.uniform(0.5, 0.9) for side in photograph.size)
    left = rng.uniform(0, photograph.width - width)
    top = rng.uniform(0, photograph.height - height)
    alpha = Image.new("L", photograph.size, 0)
    ImageDraw.Draw(alpha).ellipse((left, top, left + width, top + height), fill=255)
    colours = photograph
    if hidden is not None:
        left_over = Image.new("RGB", photograph.size, hidden)
        colours = Image.composite(photograph, left_over, alpha)
    colours.putalpha(alpha)
    return colours


def read(image_bytes):
    """Returns what the served model sees: uint8 [SIDE, SIDE, 3]."""
    import tensorflow as tf

    from pipeline import decoding

    pixels = decoding.decode(tf.constant(image_bytes))
    return decoding.resize(pixels[tf.newaxis], SIDE)[0].numpy()


def make_versions(image):
    """Yields (name, pixels) of the raw bytes and of what the preparation stores."""
    from pipeline.inspection.reencoding import StoredForm, bytes_to_store

    for hidden, colour in HIDDEN.items():
        # The same ellipse each time.
        rng = np.random.default_rng(list(image.name.encode()))
        with Image.open(io.BytesIO(image.read())) as opened:
            cut = cut_out(opened.convert("RGB"), colour, rng)
        file = io.BytesIO()
        cut.save(file, "PNG", compress_level=1)
        yield f"raw, {hidden}", read(file.getvalue())
        if colour is None:
            for background in BACKGROUNDS:
                form = StoredForm(background=background)
                stored = bytes_to_store(file.getvalue(), form)
                yield f"stored, {background}", read(stored)


def compute_features(images, weights):
    """Returns version -> pooled features, float32 [N, D]."""
    import keras

    backbone = keras.applications.MobileNet(
        include_top=False,
        weights=weights,
        pooling="avg",
        input_shape=(SIDE, SIDE, 3),
        alpha=0.25,
    )
    preprocess = keras.applications.mobilenet.preprocess_input
    features = {}
    for at in range(0, len(images), 32):
        pixels = {}
        for image in images[at : at + 32]:
            for name, version in make_versions(image):
                pixels.setdefault(name, []).append(version)
        for name, batch in pixels.items():
            inputs = preprocess(np.stack(batch).astype(np.float32))
            features.setdefault(name, []).append(backbone.predict(inputs, verbose=0))
    return {name: np.concatenate(batches) for name, batches in features.items()}


def predict(features, labels, groups, trained_on):
    """Returns version -> predicted labels [N], each by a model of the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    predicted = {name: np.empty(len(labels), int) for name in features}
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=1)
    for train, test in folds.split(features[trained_on], labels, groups):
        regression = LogisticRegression(C=0.01, max_iter=1000)
        model = make_pipeline(StandardScaler(), regression)
        model.fit(features[trained_on][train], labels[train])
        for name, values in features.items():
            predicted[name][test] = model.predict(values[test])
    return predicted


def describe_share(flags):
    from trainer.evaluation.metrics import confidence_interval

    low, high = confidence_interval(int(flags.sum()), len(flags))
    return f"{flags.mean():.3f} [{low:.3f}, {high:.3f}]"


def main(folder, weights):
    header = tables.describe_machine("pillow", "scikit-learn")
    images, groups, _ = label_issues.examine(pathlib.Path(folder))
    classes = sorted({image.label for image in images})
    labels = np.array([classes.index(image.label) for image in images])
    features = compute_features(images, weights)
    rows, samples = [], {}
    for background in BACKGROUNDS:
        stored = f"stored, {background}"
        predicted = predict(features, labels, groups, stored)
        for hidden in HIDDEN:
            raw = predicted[f"raw, {hidden}"]
            differs = raw != predicted[stored]
            rows.append(
                [
                    background,
                    hidden,
                    describe_share(differs),
                    describe_share(predicted[stored] == labels),
                    describe_share(raw == labels),
                ]
            )
            samples[f"{background}, {hidden}"] = {"disagree": int(differs.sum())}
            print(*rows[-1], sep=" | ", flush=True)
    tables.save(
        "transparency",
        about=(
            f"{len(images)} photographs, of each of which an ellipse is visible; "
            f"MobileNet (alpha 0.25), logistic regression, {FOLDS} folds; in brackets "
            "the 95 % interval."
        ),
        header=header,
        columns=[
            "--background",
            "behind the transparent pixels",
            "other label for raw bytes",
            "accuracy by export.client",
            "accuracy of raw bytes",
        ],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
