import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from export.drift_check.image_measures import MEASURES, measure_image


def _encode(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def _measure(image_bytes) -> dict[str, float]:
    values, hash_bits = measure_image(image_bytes)
    assert hash_bits.shape == (256,)
    return dict(
        zip((measure.name for measure in MEASURES), values.tolist(), strict=True)
    )


def test_the_measures_of_plain_colours_are_known():
    grey = _measure(_encode(np.full((50, 80, 3), 51)))
    assert grey == pytest.approx(
        {"brightness": 0.2, "contrast": 0, "saturation": 0, "sharpness": 0},
        abs=1e-6,
    )
    red = _measure(_encode(np.full((50, 80, 3), (255, 0, 0))))
    assert red["saturation"] == 1
    assert red["brightness"] == pytest.approx(76 / 255)


def test_contrast_and_sharpness_of_stripes_are_known():
    stripes = np.zeros((224, 224, 3))
    stripes[::2] = 255
    measured = _measure(_encode(stripes))
    assert measured["brightness"] == pytest.approx(0.5)
    assert measured["contrast"] == pytest.approx(0.5)
    # The Laplacian is 2 in a dark row and -2 in a light one.
    assert measured["sharpness"] == pytest.approx(2)


def test_a_blurred_image_is_less_sharp():
    pixels = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    sharp = _measure(_encode(pixels))
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2))
    assert _measure(_encode(blurred))["sharpness"] < 0.2 * sharp["sharpness"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_every_mode_are_measured(mode):
    file = io.BytesIO()
    image = Image.new("RGB", (9, 7), (51, 51, 51)).convert(mode)
    image.save(file, "JPEG" if mode == "CMYK" else "PNG")
    assert _measure(file.getvalue())["brightness"] == pytest.approx(0.2, abs=0.01)


def test_a_damaged_image_is_an_error():
    with pytest.raises(OSError, match="cannot identify"):
        measure_image(b"no image")
