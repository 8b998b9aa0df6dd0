"""How many bad photographs the audit names, and how many good ones it names wrongly.

`python benchmarks/photograph_quality.py PHOTOS` where PHOTOS holds one folder a class.
A fifth of the photographs, chosen by a seed, is darkened, brightened, flattened,
blurred, cut or shrunk by a known amount, and judged among the others, which are as they
were. Recall: changed photographs with the doubt that the change should raise. False
alarms: untouched photographs with a doubt.
"""

import dataclasses
import io
import pathlib
import sys

import numpy as np
import tables
from PIL import Image, ImageFilter

from pipeline.audit import doubts
from pipeline.inspection.image_report import inspect_image
from pipeline.sources.images import SourceImage

SEED = 1
SHARE = 0.2


def scale(factor):
    """Multiplies the grey values, as a shorter or longer exposure would."""
    return lambda image, rng: image.point(lambda value: min(255, value * factor))


def fade(target, factor):
    """Moves the grey values towards one of them."""
    return lambda image, rng: image.point(
        lambda value: target + (value - target) * factor
    )


def blur(percent):
    """Blurs like a lens out of focus; the percentage of the shorter side."""
    return lambda image, rng: image.filter(
        ImageFilter.GaussianBlur(percent / 100 * min(image.size))
    )


def shake(percent):
    """Blurs in one direction, as a camera that moves."""

    def change(image, rng):
        angle, length = rng.uniform(0, np.pi), percent / 100 * min(image.size)
        steps = np.linspace(-length / 2, length / 2, 2 * int(np.ceil(length)) + 1)
        moved = [
            image.transform(
                image.size,
                Image.Transform.AFFINE,
                (1, 0, step * np.cos(angle), 0, 1, step * np.sin(angle)),
                Image.Resampling.BILINEAR,
            )
            for step in steps
        ]
        mean = np.mean([np.asarray(each, np.float32) for each in moved], axis=0)
        return Image.fromarray(mean.round().astype(np.uint8))

    return change


def enlarge(side_px):
    """Enlarges a thumbnail of this shorter side to the size that it was made from."""

    def change(image, rng):
        factor = side_px / min(image.size)
        small = image.resize([round(side * factor) for side in image.size])
        return small.resize(image.size, Image.Resampling.BICUBIC)

    return change


def strip(ratio):
    """Cuts a horizontal strip that is so many times wider than high."""

    def change(image, rng):
        height = max(16, round(image.width / ratio))
        top = (image.height - height) // 2
        return image.crop((0, top, image.width, top + height))

    return change


def shrink(factor):
    return lambda image, rng: image.resize(
        [max(16, round(side / factor)) for side in image.size]
    )


CHANGES = [
    ("untouched", "", None),
    ("exposure x 0.1", "dark", scale(0.1)),
    ("exposure x 0.2", "dark", scale(0.2)),
    ("exposure x 0.3", "dark", scale(0.3)),
    ("exposure x 0.5", "dark", scale(0.5)),
    ("exposure x 4", "bright", scale(4)),
    ("exposure x 8", "bright", scale(8)),
    ("90 % of the way to white", "bright", fade(255, 0.1)),
    ("80 % of the way to white", "bright", fade(255, 0.2)),
    ("70 % of the way to white", "bright", fade(255, 0.3)),
    ("contrast x 0.05", "low contrast", fade(128, 0.05)),
    ("contrast x 0.1", "low contrast", fade(128, 0.1)),
    ("contrast x 0.2", "low contrast", fade(128, 0.2)),
    ("blurred by 1 %", "blurred", blur(1)),
    ("blurred by 1.5 %", "blurred", blur(1.5)),
    ("blurred by 2 %", "blurred", blur(2)),
    ("blurred by 3 %", "blurred", blur(3)),
    ("shaken by 3 %", "blurred", shake(3)),
    ("shaken by 8 %", "blurred", shake(8)),
    ("enlarged from 32 px", "blurred", enlarge(32)),
    ("enlarged from 64 px", "blurred", enlarge(64)),
    ("strip 2.5 : 1", "elongated", strip(2.5)),
    ("strip 4 : 1", "elongated", strip(4)),
    ("shrunk 3 times", "odd size", shrink(3)),
    ("shrunk 8 times", "odd size", shrink(8)),
]


def encode(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def inspect(path, image_bytes):
    name = f"{path.parent.name}/{path.name}"
    image = SourceImage(name, path.parent.name, lambda: image_bytes)
    report = inspect_image(image, min_side_px=16)
    assert report.problem is None, report
    # Otherwise all reports would keep their bytes.
    return dataclasses.replace(report, image=SourceImage(name, image.label, bytes))


def main(folder):
    header = tables.describe_machine("pillow")
    paths = sorted(pathlib.Path(folder).glob("*/*.jpg"))
    untouched = [inspect(path, path.read_bytes()) for path in paths]
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(len(paths), round(SHARE * len(paths)), replace=False)
    rows, samples = [], {}
    for title, expected, change in CHANGES:
        reports, names = list(untouched), [r.image.name for r in untouched]
        if change is not None:
            for at in chosen:
                with Image.open(paths[at]) as image:
                    changed = change(image.convert("RGB"), rng)
                reports[at] = inspect(paths[at], encode(changed))
            names = [untouched[at].image.name for at in chosen]
        found = doubts.find_doubts(reports)
        counts = {
            doubt: sum(doubt in found.get(name, ()) for name in names)
            for doubt in doubts.MEANINGS
        }
        samples[title] = {"photographs": len(names), **counts}
        recall = f"{counts[expected] / len(names):.3f}" if expected else ""
        others = sum(
            bool(set(found.get(name, ())) - {expected}) for name in names
        ) / len(names)
        rows.append([title, expected, recall, f"{others:.3f}"])
        print(title, counts, flush=True)
    alarms = samples["untouched"]
    listed = ", ".join(f"{alarms[doubt]} {doubt}" for doubt in doubts.MEANINGS)
    tables.save(
        "photograph_quality",
        about=(
            f"{len(chosen)} changed photographs among {len(paths)}; of the untouched "
            f"ones are {listed}. Limits: dark below {doubts.DARK_BELOW} and bright "
            f"above {doubts.BRIGHT_ABOVE} of 255, contrast below "
            f"{doubts.LOW_CONTRAST_BELOW}, sharpness below {doubts.BLURRED_BELOW}, "
            f"elongated above {doubts.ELONGATED_ABOVE} to 1, "
            f"{doubts.ODD_SIZE_FACTOR} times the usual side or that part of it."
        ),
        header=header,
        columns=["change", "expected doubt", "recall", "with another doubt"],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    main(sys.argv[1])
