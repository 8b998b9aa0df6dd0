import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.inspection.quality import SIDE_PX, Quality, measure_quality


def _texture(width: int = 300, height: int = 200) -> Image.Image:
    """Squares of 10 pixels with random grey values: edges of every strength."""
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (height // 10, width // 10), np.uint8)
    return Image.fromarray(squares.repeat(10, 0).repeat(10, 1))


def test_ends_of_the_range_ignore_half_a_percent_of_the_pixels():
    pixels = np.full((SIDE_PX, 100), 100, np.uint8)
    pixels[0, :40] = 0  # 40 of 9,600 pixels are less than 0.5 %.
    pixels[-1, :60] = 255
    assert measure_quality(Image.fromarray(pixels)).darkest == 100
    assert measure_quality(Image.fromarray(pixels)).lightest == 255


def test_sharpness_of_one_edge_is_its_laplacian_over_the_range():
    pixels = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    pixels[:, 48:] = 200
    assert measure_quality(Image.fromarray(pixels)) == Quality(0, 200, 1.0)


def test_sharpness_falls_with_the_blur_and_not_with_the_contrast():
    sharp = _texture()
    sharpness = measure_quality(sharp).sharpness
    pale = measure_quality(sharp.point(lambda value: 120 + value // 4))
    assert sharpness > 1
    assert pale.sharpness == pytest.approx(sharpness, rel=0.05)
    blurred = [
        measure_quality(sharp.filter(ImageFilter.GaussianBlur(radius))).sharpness
        for radius in (1, 2, 4)
    ]
    assert sharpness > blurred[0] > blurred[1] > blurred[2]
    assert blurred[0] > 0.4
    assert blurred[2] < 0.2


def test_the_size_hardly_matters():
    small = _texture()
    large = small.resize((1200, 800), Image.Resampling.BICUBIC)
    first, second = measure_quality(small), measure_quality(large)
    assert abs(first.darkest - second.darkest) < 4
    assert abs(first.lightest - second.lightest) < 4
    assert second.sharpness == pytest.approx(first.sharpness, rel=0.25)


@pytest.mark.parametrize("size", [(95, 300), (16, 16), (1, 1)])
def test_a_small_image_has_no_sharpness(size):
    assert measure_quality(_texture().resize(size)).sharpness is None


def test_an_image_of_one_colour_has_no_sharpness():
    measured = measure_quality(Image.new("L", (200, 200), 7))
    assert (measured.darkest, measured.lightest) == (7, 7)
    assert measured.sharpness is None


def test_a_very_long_image_is_measured():
    measured = measure_quality(Image.new("L", (6000, 20), 9))
    assert (measured.darkest, measured.lightest) == (9, 9)
