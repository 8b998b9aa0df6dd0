"""Precision and recall of the near-duplicate search on twins of real photographs.

`python benchmarks/near_duplicates.py PHOTOS` where PHOTOS holds one folder a class.
Every fifth photograph gets twins of twelve kinds. Recall: twins that land in the group
of their photograph. Precision: of all pairs that are grouped, those that are a
photograph and its twin, or two twins of one photograph; photographs that were near
duplicates before any twin was made are named and left out.
"""

import io
import pathlib
import sys

import numpy as np
import tables
from PIL import Image, ImageEnhance

from pipeline.audit import duplicates
from pipeline.inspection import jpeg, perceptual_hash


def encode(image, quality, image_format="JPEG"):
    file = io.BytesIO()
    image.save(file, image_format, quality=quality)
    return file.getvalue()


def hash_bytes(image_bytes):
    """As preparation does."""
    with Image.open(io.BytesIO(image_bytes)) as opened:
        return perceptual_hash.compute_hash(jpeg.decode_grey(image_bytes, opened))


def resize(image, factor):
    size = (round(image.width * factor), round(image.height * factor))
    return encode(image.resize(size), 85)


def crop(image, share):
    x, y = share * image.width / 2, share * image.height / 2
    box = (round(x), round(y), round(image.width - x), round(image.height - y))
    return encode(image.crop(box), 85)


TWINS = {
    "JPEG quality 60": lambda image: encode(image, 60),
    "JPEG quality 25": lambda image: encode(image, 25),
    "WebP quality 60": lambda image: encode(image, 60, "WEBP"),
    "half size": lambda image: resize(image, 0.5),
    "one and a half size": lambda image: resize(image, 1.5),
    "100 pixels wide": lambda image: resize(image, 100 / image.width),
    "squashed to 224 x 224": lambda image: encode(image.resize((224, 224)), 85),
    "brightness + 20 %": lambda image: encode(
        ImageEnhance.Brightness(image).enhance(1.2), 85
    ),
    "grey": lambda image: encode(image.convert("L"), 85),
    "cropped by 2 %": lambda image: crop(image, 0.02),
    "cropped by 5 %": lambda image: crop(image, 0.05),
    "cropped by 10 %": lambda image: crop(image, 0.10),
}


def load(path):
    return Image.open(path).convert("RGB")


def group(hashes):
    pairs = duplicates.find_pairs(hashes, max_bits=duplicates.NEAR_DUPLICATE_BITS)
    return duplicates.group_pairs(*pairs[:2], count=len(hashes))


def main(folder):
    header = tables.describe_machine("pillow")
    paths = sorted(pathlib.Path(folder).glob("*/*.jpg"))
    hashes = np.array([hash_bytes(path.read_bytes()) for path in paths])
    max_bits = duplicates.NEAR_DUPLICATE_BITS
    groups = group(hashes)
    _, sizes = np.unique(groups, return_counts=True)
    alone = [i for i in range(0, len(paths), 5) if (groups == groups[i]).sum() == 1]
    rows = []
    all_hashes, owners = [hashes], [np.arange(len(paths))]
    for name, make in TWINS.items():
        twins = np.array([hash_bytes(make(load(paths[i]))) for i in alone])
        bits = (twins != hashes[alone]).sum(axis=1)
        row = [name, f"{(bits <= max_bits).mean():.3f}"]
        rows.append(row + [f"{np.percentile(bits, p):.0f}" for p in (50, 99, 100)])
        all_hashes.append(twins)
        owners.append(np.array(alone))
    owner = np.concatenate(owners)
    found = group(np.concatenate(all_hashes))
    right = wrong = 0
    for number in np.unique(found):
        # Photographs that were near duplicates before count as one.
        members = groups[owner[found == number]]
        pairs = len(members) * (len(members) - 1) // 2
        _, counts = np.unique(members, return_counts=True)
        same = int((counts * (counts - 1) // 2).sum())
        right, wrong = right + same, wrong + pairs - same
    tables.save(
        "near_duplicates",
        about=(
            f"Twins of {len(alone)} among {len(paths)} photographs, which hold "
            f"{(sizes > 1).sum()} groups before any twin; bits that differ, of "
            f"{hashes.shape[1]}, up to {max_bits} of which are a near duplicate. "
            f"Precision over pairs {right / (right + wrong):.4f} ({wrong} wrong)."
        ),
        header=header,
        columns=["twin", "recall", "bits: median", "99 %", "max"],
        rows=rows,
        samples={"right": right, "wrong": wrong},
    )


if __name__ == "__main__":
    main(sys.argv[1])
