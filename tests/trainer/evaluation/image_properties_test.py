"""Tests the properties of images whose brightness, sharpness and colour are known."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.loading import prepared_data
from trainer.evaluation.image_properties import COLOURS, GREY, measure_images
from trainer.evaluation.image_properties import measure_pixels as measure

NAMES = (*COLOURS, GREY)


def _fill(*colour):
    return np.full((32, 32, 3), colour, np.float32)


@pytest.mark.parametrize(
    ("rgb", "name", "brightness", "saturation"),
    [
        ((100, 100, 100), "grey", 100, 0),
        ((0, 0, 0), "grey", 0, 0),
        ((200, 0, 0), "red", 0.299 * 200, 1),
        ((200, 100, 110), "red", 131.04, 0.5),
        ((250, 220, 0), "yellow", 203.89, 1),
        ((40, 200, 60), "green", 136.2, 0.8),
        ((0, 0, 200), "blue", 22.8, 1),
        ((200, 0, 200), "purple", 82.6, 1),
    ],
)
def test_one_colour(rgb, name, brightness, saturation):
    found = [part.numpy() for part in measure(_fill(*rgb))]
    assert NAMES[found[3]] == name
    assert found[0] == pytest.approx(brightness, abs=0.01)
    assert found[1] == pytest.approx(0, abs=1e-5)
    assert found[2] == pytest.approx(saturation, abs=1e-5)


def test_the_colour_with_the_largest_share_wins():
    image = _fill(0, 0, 200)
    image[:20] = (0, 180, 0)
    assert NAMES[measure(image)[3]] == "green"
    image[:20] = (90, 100, 90)  # Nearly grey, so that the blue weighs more.
    assert NAMES[measure(image)[3]] == "blue"


def test_a_blurred_image_is_less_sharp():
    checkerboard = np.indices((32, 32)).sum(axis=0) % 2
    image = np.repeat(255.0 * checkerboard[..., None], 3, axis=2).astype(np.float32)
    # Each pixel differs by 255 from each of its four neighbours.
    assert float(measure(image)[1]) == pytest.approx(1020**2, rel=1e-4)
    ramp = np.repeat(np.linspace(0, 255, 32, dtype="f4")[None, :, None], 32, axis=0)
    assert float(measure(np.repeat(ramp, 3, axis=2))[1]) < 1e-3


def test_a_split_is_measured_in_stored_order(data_dir, photographs):
    records = prepared_data.read_records(data_dir, "test")
    found = measure_images(records, 32)
    for index, example in enumerate(records.dataset.as_numpy_iterator()):
        image = Image.open(io.BytesIO(example["image_bytes"]))
        assert (found.width[index], found.height[index]) == image.size
        mean = np.asarray(image.convert("L")).mean()
        assert found.brightness[index] == pytest.approx(mean, abs=6)
    assert len(found.colour) == len(found.sharpness) == records.count
