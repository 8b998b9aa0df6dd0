import io

import fakes
import imagehash
import numpy as np
import pytest
from PIL import Image

from pipeline.audit import duplicates
from pipeline.inspection import perceptual_hash
from pipeline.sources import drawn_flowers


def _hash(image: Image.Image) -> np.ndarray:
    return perceptual_hash.compute_hash(image.convert("L"))


def _find_groups(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    left, right, bits = duplicates.find_pairs(hashes, max_bits=max_bits)
    differing = (hashes[left] != hashes[right]).sum(axis=1)
    np.testing.assert_array_equal(bits, differing)
    return duplicates.group_pairs(left, right, count=len(hashes))


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    x, y = share * width / 2, share * height / 2
    return image.crop((round(x), round(y), round(width - x), round(height - y)))


@pytest.mark.parametrize(
    "picture",
    [drawn_flowers.draw_image(k, i) for k in drawn_flowers.CLASSES for i in range(3)]
    + [fakes.draw(k, i) for k in fakes.CLASSES for i in range(3)]
    + [Image.new("L", (40, 30), grey) for grey in (0, 100, 255)],
)
def test_the_hash_is_that_of_the_imagehash_library(picture):
    small = picture.convert("L").resize((64, 64), Image.HAMMING)
    expected = imagehash.phash(small, hash_size=16).hash.ravel()
    np.testing.assert_array_equal(_hash(picture), expected)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [
        drawn_flowers.draw_image(k, i) for k in drawn_flowers.CLASSES for i in range(6)
    ]


@pytest.mark.parametrize(
    "twin",
    [
        lambda image: _encoded(image, 40),
        lambda image: image.resize((image.width // 2, image.height // 2)),
        lambda image: image.resize((224, 224)),
        lambda image: _encoded(_cropped(image, 0.02), 85),
        lambda image: image.convert("L"),
    ],
    ids=["re-encoded", "half", "square", "cropped", "grey"],
)
def test_twins_are_grouped_with_their_picture_and_pictures_apart(twin, pictures):
    hashes = np.array([_hash(p) for p in [*pictures, *map(twin, pictures)]])
    groups = _find_groups(hashes, duplicates.NEAR_DUPLICATE_BITS)
    np.testing.assert_array_equal(groups[:30], groups[30:])
    assert len(set(groups)) == 30


def test_groups_are_the_chains_of_close_hashes():
    hashes = np.zeros((6, 256), bool)
    hashes[1, :10] = True  # 10 from 0
    hashes[2, :20] = True  # 10 from 1, 20 from 0
    hashes[3, 100:250] = True
    hashes[4, 100:239] = True  # 11 from 3
    groups = _find_groups(hashes, 10).tolist()
    assert groups[0] == groups[1] == groups[2] == groups[5]
    assert len({groups[0], groups[3], groups[4]}) == 3


def test_the_banded_index_finds_what_comparing_all_pairs_finds(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = rng.random((2_000, 256)) < 0.5
    twins = hashes[:500] ^ (rng.random((500, 256)) < 20 / 256)
    both = np.concatenate([hashes, twins])
    expected = _find_groups(both, 52)
    monkeypatch.setattr(duplicates, "_EXHAUSTIVE_UP_TO", 0)
    found = _find_groups(both, 52)
    assert len(set(expected)) == 2_000
    # At 20 bits a pair escapes all of 128 bands with a probability below 1e-19.
    np.testing.assert_array_equal(found[:500] == found[2_000:], np.ones(500, bool))
    assert len(set(found)) == 2_000


def test_many_equal_hashes_are_one_group_at_once(monkeypatch):
    monkeypatch.setattr(duplicates, "_EXHAUSTIVE_UP_TO", 0)
    blank = np.array([_hash(Image.new("RGB", (40, 40)))] * 50_000)
    other = _hash(fakes.draw("circle", 1))
    groups = _find_groups(np.concatenate([blank, [other]]), 52)
    assert len(set(groups[:-1])) == 1
    assert groups[-1] != groups[0]
