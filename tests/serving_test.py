import io
import struct
import zlib

import fakes
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.graph.image_headers import count_pixels
from export.graph.safe_decoding import decode_rows
from export.graph.signatures import make_signatures
from export.protocol import messages
from pipeline import decoding
from pipeline.inspection import gif
from trainer.models.classifier import compute_logits

SIDE = 32


def encode(image_format, mode="RGB", size=(40, 30), **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 3).save(file, image_format, **options)
    return file.getvalue()


def photograph(index=0) -> bytes:
    file = io.BytesIO()
    fakes.draw("stripe", index).save(file, "JPEG")
    return file.getvalue()


def animation(image_format) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, image_format, save_all=True, append_images=frames[1:])
    return file.getvalue()


def png_header(width, height) -> bytes:
    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def jpeg_header(width, height) -> bytes:
    image_bytes = bytearray(encode("JPEG"))
    at = image_bytes.index(b"\xff\xc0") + 5
    image_bytes[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(image_bytes)


def gif_frame(width, height, *, before=b"") -> bytes:
    """The screen is small, the frame need not be."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return screen + before + frame + b"\x02\x02\x4c\x01\x00\x3b"


def gif_block(width, height) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return frame + b"\x02\x02\x4c\x01\x00"


def webp_canvas(width, height) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(width, height) -> bytes:
    image_bytes = bytearray(encode("BMP"))
    image_bytes[18:26] = struct.pack("<ii", width, height)
    return bytes(image_bytes)


IMAGES = {
    "baseline": encode("JPEG"),
    "progressive": encode("JPEG", progressive=True),
    "grey JPEG": encode("JPEG", "L"),
    "CMYK": encode("JPEG", "CMYK"),
    "PNG": encode("PNG"),
    "RGBA": encode("PNG", "RGBA"),
    "palette": encode("PNG", "P"),
    "grey PNG": encode("PNG", "L"),
    "16-bit": encode("PNG", "I;16"),
    "1 x 1": encode("PNG", size=(1, 1)),
    "GIF": encode("GIF", "P"),
    "animated GIF": animation("GIF"),
    "BMP": encode("BMP"),
    "lossy WebP": encode("WEBP"),
    "lossless WebP": encode("WEBP", lossless=True),
}
NO_IMAGES = {
    "empty": b"",
    "text": b"no image at all",
    "HTML": b"<!DOCTYPE html><html></html>",
    "base64": b"/9j/4AAQSkZJRgABAQAAAQABAAD",
    "TIFF": encode("TIFF"),
    "animated WebP": animation("WEBP"),
    "truncated": photograph()[:-200],
    "two bytes": b"\xff\xd8",
    "three bytes": b"\xff\xd8\xff",
    "GIF magic": b"GIF89a",
    "PNG magic": b"\x89PNG\r\n\x1a\n",
    "RIFF": b"RIFF\0\0\0\0WEBPVP8 ",
    "PNG of 60,000": png_header(60_000, 60_000),
    "JPEG of 60,000": jpeg_header(60_000, 60_000),
    "GIF of 60,000": gif_frame(60_000, 60_000),
    "GIF of wide and high frames": gif_frame(60_000, 1, before=gif_block(1, 60_000)),
    "GIF of many frames": gif_frame(9_990, 9_990, before=gif_block(9_990, 9_990)),
    "GIF of many blocks": gif_frame(
        9, 9, before=b"\x21\xfe" + b"\x01a" * 100_001 + b"\0"
    ),
    "WebP of 16,000,000": webp_canvas(2**24, 2**24),
    "BMP of 60,000": bmp_header(60_000, 60_000),
    "BMP of -60,000": bmp_header(60_000, -60_000),
}


@pytest.fixture(scope="module")
def classifier():
    return fakes.make_classifier()


@pytest.fixture(scope="module")
def signatures(classifier):
    return make_signatures(classifier, fakes.CLASSES, image_size=SIDE)


@pytest.mark.parametrize("name", IMAGES)
def test_serving_sees_the_pixels_that_training_sees(name):
    image_bytes = tf.constant(IMAGES[name])
    rows, ok = decode_rows(image_bytes[tf.newaxis], SIDE, contained=True)
    assert ok.numpy().tolist() == [True]
    wanted = decoding.decode_and_resize(image_bytes, SIDE)
    np.testing.assert_array_equal(rows[0], wanted)


@pytest.mark.parametrize(
    ("image_bytes", "pixels"),
    [
        *((IMAGES[name], 1200) for name in ("baseline", "progressive", "PNG", "BMP")),
        *((IMAGES[name], 1200) for name in ("GIF", "lossy WebP", "lossless WebP")),
        (encode("WEBP", size=(300, 70), exif=b"Exif\0\0" + bytes(8)), 21_000),
        (encode("WEBP", size=(1000, 9), lossless=True), 9_000),
        (animation("GIF"), 800),  # two frames are kept
        (gif_frame(20_000, 1, before=gif_block(1, 30_000)), 600_000_000),
        (gif_frame(9, 9, before=b"\x21\xfe" + b"\x01a" * 100_001), 2**63 - 1),
        (animation("WEBP"), 0),
        (gif_frame(500, 400), 200_000),
        (gif_frame(500, 400, before=b"\x21\xfe\x03abc\x02de\x00"), 200_000),
        (gif_frame(60_000, 50_000), 3_000_000_000),
        (png_header(70_000, 80_000), 5_600_000_000),
        (bmp_header(3, -5), 15),
        (webp_canvas(2**24, 2), 2**25),
        (NO_IMAGES["TIFF"], 0),
        (b"", 0),
        (b"BM", 0),
    ],
)
def test_the_size_is_read_off_the_header(image_bytes, pixels):
    assert int(count_pixels(tf.constant(image_bytes))) == pixels


@pytest.mark.parametrize(
    ("image_bytes", "pixels"),
    [
        (encode("GIF", "P"), 1200),
        (animation("GIF"), 800),
        (gif_frame(500, 400, before=b"\x21\xfe\x03abc\x02de\x00"), 200_000),
        (gif_frame(20_000, 1, before=gif_block(1, 30_000)), 600_000_000),
        (gif_frame(9_990, 9_990, before=gif_block(9_990, 9_990)), 2 * 9_990**2),
        (b"GIF89a", 0),
        (animation("GIF")[:-9], 800),
        (animation("GIF")[:40], 400),
    ],
)
def test_preparation_and_serving_count_the_same_of_a_gif(image_bytes, pixels):
    assert gif.count_pixels(image_bytes) == pixels
    assert int(count_pixels(tf.constant(image_bytes))) == pixels


def test_one_bad_image_spoils_its_own_row_only(signatures):
    good = [photograph(index) for index in range(2)]
    batch = [good[0], *NO_IMAGES.values(), good[1]]
    reply = signatures["serving_default"](tf.constant(batch))
    is_good = [True, *(False for _ in NO_IMAGES), True]
    found = dict(zip(NO_IMAGES, reply["decode_ok"].numpy().tolist()[1:-1], strict=True))
    assert found == dict.fromkeys(NO_IMAGES, False)
    assert reply["decode_ok"].numpy().tolist() == is_good
    alone = signatures["serving_default"](tf.constant(good))
    for name, values in alone.items():
        rows = reply[name].numpy()
        if name == "probabilities":
            np.testing.assert_allclose(rows[[0, -1]], values, atol=1e-6)
            np.testing.assert_array_equal(rows[1:-1], 0.0)
        else:
            np.testing.assert_array_equal(rows[[0, -1]], values)
    assert set(reply["class_id"].numpy()[1:-1]) == {-1}
    assert set(reply["label"].numpy()[1:-1]) == {b""}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_strict_refuses_what_is_no_image(signatures, name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["predict_strict"](tf.constant([photograph(), NO_IMAGES[name]]))


def test_a_bomb_is_refused_by_its_size(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match="3600000000"):
        signatures["predict_strict"](tf.constant([NO_IMAGES["PNG of 60,000"]]))


def test_probabilities_labels_and_classes_belong_together(signatures, classifier):
    encoded = [photograph(index) for index in range(3)]
    pixels = tf.stack(
        [decoding.decode_and_resize(tf.constant(one), SIDE) for one in encoded]
    )
    wanted = tf.nn.softmax(compute_logits(classifier, pixels)).numpy()
    for name in ("serving_default", "predict_strict"):
        reply = signatures[name](tf.constant(encoded))
        np.testing.assert_allclose(reply["probabilities"], wanted, atol=1e-5)
        assert reply["class_id"].numpy().tolist() == wanted.argmax(axis=1).tolist()
        assert [fakes.CLASSES[k].encode() for k in reply["class_id"].numpy()] == (
            reply["label"].numpy().tolist()
        )


def _example(image_bytes, key=messages.CLASSIFY_KEY) -> bytes:
    feature = {key: {"bytes_list": {"value": [image_bytes]}}}
    return tf.train.Example(features={"feature": feature}).SerializeToString()


def test_classify_gives_every_class_best_first(signatures):
    encoded = [photograph(index) for index in range(3)]
    probabilities = signatures["serving_default"](tf.constant(encoded))
    order = np.argsort(-probabilities["probabilities"], axis=1)
    bad = [b"garbage", _example(b"no image"), _example(encoded[0], key="image")]
    reply = signatures["classify"](tf.constant([*map(_example, encoded), *bad]))
    assert set(reply) == {"classes", "scores"}
    names = np.array(fakes.CLASSES, np.bytes_)
    np.testing.assert_array_equal(reply["classes"][:3], names[order])
    np.testing.assert_array_equal(
        reply["scores"][:3], -np.sort(-probabilities["probabilities"], axis=1)
    )
    np.testing.assert_array_equal(reply["scores"][3:], 0.0)
    assert set(reply["classes"].numpy()[3:].ravel()) == {b""}


def test_pixels_get_what_their_bytes_get(signatures):
    encoded = tf.constant([photograph(7)])
    image = decoding.decode(encoded[0])[tf.newaxis]
    found = signatures["predict_pixels"](tf.repeat(image, 3, axis=0))
    wanted = signatures["predict_strict"](encoded)
    np.testing.assert_allclose(
        found["probabilities"], np.repeat(wanted["probabilities"], 3, 0), atol=1e-6
    )
    assert set(found["label"].numpy()) == set(wanted["label"].numpy())


def test_features_are_the_pooled_ones(signatures, classifier):
    encoded = [photograph(index) for index in range(2)]
    pixels = tf.stack(
        [decoding.decode_and_resize(tf.constant(one), SIDE) for one in encoded]
    )
    backbone = classifier.backbone(classifier.normalise(pixels), training=False)
    reply = signatures["features"](tf.constant([*encoded, b"no image"]))
    wanted = tf.reduce_mean(backbone, axis=(1, 2))
    # A graph fuses layers, and so rounds otherwise.
    np.testing.assert_allclose(reply["embedding"][:2], wanted, atol=5e-4)
    np.testing.assert_array_equal(reply["embedding"][2], 0.0)
    assert reply["decode_ok"].numpy().tolist() == [True, True, False]


def test_a_batch_may_be_empty_or_large_and_rows_do_not_depend_on_it(signatures):
    empty = tf.constant([], tf.string)
    for name in ("serving_default", "predict_strict", "classify", "features"):
        for key, values in signatures[name](empty).items():
            assert values.shape[0] == 0, (name, key)
    none = signatures["predict_pixels"](tf.zeros([0, 5, 5, 3], tf.uint8))
    assert none["probabilities"].shape == (0, len(fakes.CLASSES))
    encoded = [photograph(index % 7) for index in range(64)]
    many = signatures["serving_default"](tf.constant(encoded))["probabilities"]
    for size in (1, 3):
        few = signatures["serving_default"](tf.constant(encoded[:size]))
        np.testing.assert_allclose(few["probabilities"], many[:size], atol=1e-6)


def test_a_folder_of_large_photographs_is_antialiased_as_in_training(signatures):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 150, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    encoded = tf.constant([file.getvalue()])
    rows, _ = decode_rows(encoded, SIDE, contained=False)
    np.testing.assert_array_equal(rows[0], decoding.decode_and_resize(encoded[0], SIDE))
    found = signatures["predict_pixels"](tf.constant(pixels[np.newaxis]))
    wanted = signatures["predict_strict"](encoded)
    np.testing.assert_allclose(
        found["probabilities"], wanted["probabilities"], atol=1e-6
    )
