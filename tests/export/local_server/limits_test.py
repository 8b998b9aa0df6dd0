import numpy as np
import pytest
from fakes.image_files import BAD_IMAGES, animation, encode, png_header

from export.local_server import limits
from export.protocol.messages import example_pb2
from export.protocol.status import Code, StatusError

# export.serve ignores it, too: the limit is the project's own.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

LARGE = png_header(10_000, 10_000)


def _strings(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _make_example(image_bytes: bytes) -> bytes:
    example = example_pb2.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(image_bytes)
    return example.SerializeToString()


@pytest.mark.parametrize(
    "images",
    [
        [],
        [LARGE] * 8,
        # What the graph refuses by itself is not decoded.
        [*[LARGE] * 6, *[png_header(10_001, 10_000)] * 30, *BAD_IMAGES.values()],
        [png_header(5_000, 5_000)] * 32,
        [encode("JPEG"), animation("GIF"), b"", b"no image"] * 10,
    ],
)
def test_images_of_few_pixels_are_accepted(images):
    limits.check_pixels({"image_bytes": _strings(images)})
    limits.check_pixels({"inputs": _strings([*map(_make_example, images)])})
    limits.check_pixels({"inputs": _strings(images)})


@pytest.mark.parametrize(
    ("images", "total"),
    [
        ([LARGE] * 32, 3_200_000_000),
        ([*[LARGE] * 8, encode("JPEG")], 800_001_200),
        ([*[encode("WEBP")] * 30, *[LARGE] * 9], 900_036_000),
    ],
)
def test_images_of_too_many_pixels_are_an_invalid_argument(images, total):
    for inputs in (
        {"image_bytes": _strings(images)},
        {"inputs": _strings([*map(_make_example, images)])},
    ):
        with pytest.raises(StatusError, match=f"{total} pixels") as raised:
            limits.check_pixels(inputs)
        assert raised.value.code == Code.INVALID_ARGUMENT


def test_arrays_of_pixels_are_not_counted():
    limits.check_pixels({"image": np.zeros([40, 2, 2, 3], np.uint8)})
