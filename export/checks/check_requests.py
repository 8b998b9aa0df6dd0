"""Makes the requests that an export is checked with."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from export.protocol import messages
from export.protocol.exchange import Arrays, Failure, Request
from export.protocol.messages import example_pb2
from pipeline.inspection.reencoding import StoredForm
from trainer.postprocessing.postprocessing import Postprocessing

BATCH_SIZES = (1, 3, 64)
MAX_BATCH_SIZE = max(BATCH_SIZES)

BAD_IMAGES = {
    "nothing": b"",
    "text": b"no image at all",
    "a header alone": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "a GIF of 60,000 x 60,000": b"GIF89a\x0a\0\x0a\0\0\0\0\x2c\0\0\0\0"
    b"\x60\xea\x60\xea\0\x02\x02\x4c\x01\0\x3b",
    "a bitmap of 60,000 x 60,000": b"BM" + bytes(12) + b"\x28\0\0\0" + b"\x60\xea\0\0"
    b"\x60\xea\0\0\x01\0\x18\0" + bytes(24),
}

Replies = Mapping[str, Arrays | Failure]


@dataclasses.dataclass(frozen=True)
class ExpectedExport:
    """The properties that an export must have.

    classes: K names.
    embedding_size: D.
    weight_bytes: bytes of all variables.
    replies: arrays of make_reply(), of the model in memory on N images.
    postprocessing: makes them of logits and embeddings.
    precision: "float32" or "bfloat16".
    form: how the training images were stored.
    """

    classes: Sequence[str]
    embedding_size: int
    weight_bytes: int
    replies: Mapping[str, np.ndarray]
    postprocessing: Postprocessing
    precision: str
    form: StoredForm


def repeat_rows(rows: np.ndarray | Sequence[bytes], count: int) -> np.ndarray:
    """Repeats rows from the beginning until there are `count` of them."""
    return np.array([rows[index % len(rows)] for index in range(count)])


def make_requests(images: Sequence[bytes], pixels: np.ndarray) -> dict[str, Request]:
    """Returns the requests by name.

    Args:
      images: N encoded images.
      pixels: uint8 [1, H, W, 3], the first image, decoded.
    """
    batch = [images[index % len(images)] for index in range(MAX_BATCH_SIZE)]
    mixed = [batch[0], *BAD_IMAGES.values(), batch[1]]
    examples = [_serialize_example(image_bytes) for image_bytes in mixed]
    return {
        **{f"batch of {size}": _predict(batch[:size]) for size in BATCH_SIZES},
        "again": _predict(batch),
        "empty batch": _predict([]),
        "bad images": _predict(mixed),
        "strict": _predict(batch[:3], "predict_strict"),
        "strict and bad": _predict([b"no image"], "predict_strict"),
        "classify": ("classify", {"inputs": _strings(examples)}),
        "pixels": ("predict_pixels", {"image": pixels}),
        # A PNG of the pixels, not the image: a large JPEG is decoded smaller.
        "pixels as PNG": _predict([tf.io.encode_png(pixels[0]).numpy()]),
        "features": _predict(mixed, "features"),
        "preparation": _predict(mixed[1:3], "preparation"),
    }


def _predict(images: Sequence[bytes], signature: str = "serving_default") -> Request:
    return signature, {"image_bytes": _strings(images)}


def _strings(values: Sequence[bytes]) -> np.ndarray:
    """Returns an array of objects: numpy's own strings lose zeros at their end."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _serialize_example(image_bytes: bytes) -> bytes:
    feature = {messages.CLASSIFY_KEY: {"bytes_list": {"value": [image_bytes]}}}
    return example_pb2.Example(features={"feature": feature}).SerializeToString()
