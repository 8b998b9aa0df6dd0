import io

import numpy as np
import pytest
from PIL import Image

from pipeline.sources import drawn_flowers


def test_an_image_is_a_pure_function_of_its_arguments():
    alone = drawn_flowers.draw_jpeg("rose", 7)
    for index in range(3):
        drawn_flowers.draw_jpeg("tulip", index)
    assert drawn_flowers.draw_jpeg("rose", 7) == alone
    others = [
        drawn_flowers.draw_jpeg("rose", 8),
        drawn_flowers.draw_jpeg("rose", 7, seed=2),
        drawn_flowers.draw_jpeg("tulip", 7),
    ]
    assert len({alone, *others}) == 4


@pytest.mark.parametrize("label", drawn_flowers.CLASSES)
def test_images_are_rgb_jpegs_of_varied_size(label):
    images = [
        Image.open(io.BytesIO(drawn_flowers.draw_jpeg(label, index)))
        for index in range(8)
    ]
    for image in images:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert min(image.size) >= 180
        assert max(image.size) <= 320
        assert np.asarray(image).std() > 8
    assert len({image.size for image in images}) > 1


@pytest.mark.slow
def test_colour_alone_does_not_tell_the_classes_apart():
    """Nearest neighbour on colour histograms; chance is 0.2."""

    def histogram(label, index):
        pixels = np.asarray(drawn_flowers.draw_image(label, index))[::4, ::4] // 64
        codes = pixels @ np.array([16, 4, 1])
        return np.bincount(codes.ravel(), minlength=64) / codes.size

    numbers = range(len(drawn_flowers.CLASSES))
    drawn = {
        (k, i): histogram(drawn_flowers.CLASSES[k], i)
        for k in numbers
        for i in range(24)
    }
    known = [key for key in drawn if key[1] < 16]
    asked = [key for key in drawn if key[1] >= 16]
    distances = np.array(
        [[np.abs(drawn[a] - drawn[k]).sum() for k in known] for a in asked]
    )
    nearest = [known[i][0] for i in distances.argmin(axis=1)]
    accuracy = np.mean([k == a[0] for k, a in zip(nearest, asked, strict=True)])
    assert accuracy < 0.5


@pytest.mark.parametrize(
    ("label", "index", "received"), [("lily", 0, "label='lily'"), ("rose", -1, "-1")]
)
def test_what_cannot_be_drawn_is_quoted(label, index, received):
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        drawn_flowers.draw_jpeg(label, index)
