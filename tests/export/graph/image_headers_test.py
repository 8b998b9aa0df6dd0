import pytest
import tensorflow as tf
from fakes.image_files import (
    BAD_IMAGES,
    IMAGES,
    animation,
    bmp_header,
    encode,
    gif_frame,
    gif_frame_block,
    png_header,
    webp_canvas,
)

from export.graph.image_headers import count_pixels
from pipeline.inspection import gif


@pytest.mark.parametrize(
    ("image_bytes", "pixels"),
    [
        *((IMAGES[name], 1200) for name in ("baseline", "progressive", "PNG", "BMP")),
        *((IMAGES[name], 1200) for name in ("GIF", "lossy WebP", "lossless WebP")),
        (encode("WEBP", size=(300, 70), exif=b"Exif\0\0" + bytes(8)), 21_000),
        (encode("WEBP", size=(1000, 9), lossless=True), 9_000),
        (animation("GIF"), 800),  # two frames are kept
        (gif_frame(20_000, 1, before=gif_frame_block(1, 30_000)), 600_000_000),
        (gif_frame(9, 9, before=b"\x21\xfe" + b"\x01a" * 100_001), 2**63 - 1),
        (animation("WEBP"), 0),
        (gif_frame(500, 400), 200_000),
        (gif_frame(500, 400, before=b"\x21\xfe\x03abc\x02de\x00"), 200_000),
        (gif_frame(60_000, 50_000), 3_000_000_000),
        (png_header(70_000, 80_000), 5_600_000_000),
        (png_header(2**32 - 1, 2**32 - 1), (2**31 - 1) ** 2),
        (bmp_header(3, -5), 15),
        (webp_canvas(2**24, 2), 2**25),
        (BAD_IMAGES["TIFF"], 0),
        (b"", 0),
        (b"BM", 0),
    ],
)
def test_the_size_is_read_from_the_header(image_bytes, pixels):
    assert int(count_pixels(tf.constant(image_bytes))) == pixels


@pytest.mark.parametrize(
    ("image_bytes", "pixels"),
    [
        (encode("GIF", "P"), 1200),
        (animation("GIF"), 800),
        (gif_frame(500, 400, before=b"\x21\xfe\x03abc\x02de\x00"), 200_000),
        (gif_frame(20_000, 1, before=gif_frame_block(1, 30_000)), 600_000_000),
        (gif_frame(9_990, 9_990, before=gif_frame_block(9_990, 9_990)), 2 * 9_990**2),
        (b"GIF89a", 0),
        (animation("GIF")[:-9], 800),
        (animation("GIF")[:40], 400),
    ],
)
def test_preparation_and_serving_count_the_same_pixels_of_a_gif(image_bytes, pixels):
    assert gif.count_pixels(image_bytes) == pixels
    assert int(count_pixels(tf.constant(image_bytes))) == pixels
