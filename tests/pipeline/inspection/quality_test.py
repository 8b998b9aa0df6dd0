import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.inspection import perceptual_hash
from pipeline.inspection.quality import Quality, measure_quality


def _measure(image: Image.Image) -> Quality:
    small = perceptual_hash.shrink(image)
    return measure_quality(small, is_enlarged=min(image.size) < 64)


def _texture(width: int = 300, height: int = 200) -> Image.Image:
    """Squares of 10 pixels with random grey values: edges of every strength."""
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (height // 10, width // 10), np.uint8)
    return Image.fromarray(squares.repeat(10, 0).repeat(10, 1))


def test_ends_of_the_range_ignore_half_a_percent_of_the_pixels():
    pixels = np.full((64, 64), 100, np.uint8)
    pixels[0, :20] = 0  # 20 of 4,096 pixels are less than 0.5 %, and 21 are more.
    pixels[-1, :21] = 255
    measured = measure_quality(pixels, is_enlarged=False)
    assert (measured.darkest, measured.lightest) == (100, 255)


def test_sharpness_of_one_edge_is_its_laplacian_over_the_range():
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:, 32:] = 200
    assert measure_quality(pixels, is_enlarged=False) == Quality(0, 200, 1.0)


def test_sharpness_falls_with_the_blur_and_not_with_the_contrast():
    sharp = _texture()
    sharpness = _measure(sharp).sharpness
    pale = _measure(sharp.point(lambda value: 120 + value // 4))
    assert sharpness > 1
    assert pale.sharpness == pytest.approx(sharpness, rel=0.05)
    blurred = [
        _measure(sharp.filter(ImageFilter.GaussianBlur(radius))).sharpness
        for radius in (2, 4, 8)
    ]
    assert sharpness > blurred[0] > blurred[1] > blurred[2]
    assert blurred[0] > 0.5
    assert blurred[2] < 0.25


def test_the_size_hardly_matters():
    small = _texture()
    large = small.resize((1200, 800), Image.Resampling.BICUBIC)
    first, second = _measure(small), _measure(large)
    assert abs(first.darkest - second.darkest) < 4
    assert abs(first.lightest - second.lightest) < 4
    assert second.sharpness == pytest.approx(first.sharpness, rel=0.1)


@pytest.mark.parametrize("size", [(63, 300), (16, 16), (1, 1)])
def test_an_enlarged_image_has_no_sharpness(size):
    assert _measure(_texture().resize(size)).sharpness is None


def test_an_image_of_one_grey_value_has_no_sharpness():
    assert _measure(Image.new("L", (200, 200), 7)) == Quality(7, 7, None)
    assert _measure(Image.new("L", (6000, 20), 9)) == Quality(9, 9, None)
