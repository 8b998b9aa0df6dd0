import io

import numpy as np
import pytest
from PIL import Image

from pipeline.inspection import reencoding, transparency
from pipeline.inspection.reencoding import StoredForm


def _image(*rows: list[tuple[int, int, int, int]]) -> Image.Image:
    return Image.fromarray(np.array(rows, np.uint8))


HIDDEN, RED, BLUE = (9, 99, 200, 0), (200, 0, 0, 255), (0, 0, 100, 255)
HALF_GREEN = (0, 240, 0, 51)


def _put(image: Image.Image, background: str) -> list:
    alpha = transparency.get_alpha(image)
    placed = transparency.put_on_background(image, alpha, background)
    assert placed.mode == "RGB"
    return np.asarray(placed).tolist()


@pytest.mark.parametrize(
    ("background", "colour"),
    [("white", [255, 255, 255]), ("black", [0, 0, 0]), ("mean", [100, 0, 50])],
)
def test_hidden_pixels_get_the_colour_of_the_background(background, colour):
    image = _image([HIDDEN, RED], [BLUE, HIDDEN])
    red, blue = [200, 0, 0], [0, 0, 100]
    assert _put(image, background) == [[colour, red], [blue, colour]]


def test_the_mean_weighs_each_pixel_by_its_opacity():
    # 5 of 6 parts red, 1 part green.
    mean = [167, 40, 0]
    (row,) = _put(_image([RED, HALF_GREEN, HIDDEN]), "mean")
    assert row[2] == mean
    mixed = [0.2 * g + 0.8 * m for g, m in zip((0, 240, 0), mean, strict=True)]
    np.testing.assert_allclose(row[1], mixed, atol=1)


def test_an_image_without_a_visible_pixel_is_white_for_the_mean():
    assert _put(_image([HIDDEN, HIDDEN]), "mean") == [[[255] * 3] * 2]


@pytest.mark.parametrize("background", transparency.BACKGROUNDS)
def test_hidden_colours_do_not_decide(background):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    pixels[:10, :, 3] = 0
    other = pixels.copy()
    other[:10, :, :3] = 255 - other[:10, :, :3]
    assert _put(Image.fromarray(pixels), background) == _put(
        Image.fromarray(other), background
    )


def test_the_background_is_that_of_what_is_stored():
    file = io.BytesIO()
    _image(*[[HIDDEN, RED]] * 20).save(file, "PNG")
    stored = reencoding.bytes_to_store(file.getvalue(), StoredForm(background="black"))
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert np.asarray(image)[0].tolist() == [[0, 0, 0], [200, 0, 0]]
    with Image.open(file) as opened:
        form = StoredForm(background="mean")
        changes = reencoding.find_changes(file.getvalue(), opened, form)
    assert changes.notes == ("transparent: stored on its mean colour",)
