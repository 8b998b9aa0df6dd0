"""What a SavedModel must pass before anybody sees it.

Each gate gives the problems it finds, as sentences; none at all opens it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from export.protocol import messages
from export.protocol.messages import example_pb2

BATCHES = (1, 3, 64)
NO_IMAGES = {
    "nothing": b"",
    "text": b"no image at all",
    "a header alone": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "a GIF of 60,000 x 60,000": b"GIF89a\x0a\0\x0a\0\0\0\0\x2c\0\0\0\0"
    b"\x60\xea\x60\xea\0\x02\x02\x4c\x01\0\x3b",
    "a bitmap of 60,000 x 60,000": b"BM" + bytes(12) + b"\x28\0\0\0" + b"\x60\xea\0\0"
    b"\x60\xea\0\0\x01\0\x18\0" + bytes(24),
}


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the export should be.

    classes: K names.
    embedding_size: D.
    weight_bytes: of all variables.
    probabilities: float32 [N, K], the in-memory model's on the photographs.
    precision: "float32" or "bfloat16".
    """

    classes: Sequence[str]
    embedding_size: int
    weight_bytes: int
    probabilities: np.ndarray
    precision: str


def repeat(rows: Sequence, count: int) -> np.ndarray:
    return np.array([rows[index % len(rows)] for index in range(count)])


def make_requests(photographs: Sequence[bytes], pixels: np.ndarray) -> dict:
    """Name -> (signature, inputs): what is asked of an export."""
    many = [photographs[index % len(photographs)] for index in range(max(BATCHES))]

    def strings(values):
        array = np.empty(len(values), object)
        array[:] = values
        return array

    def example(image_bytes):
        feature = {messages.CLASSIFY_KEY: {"bytes_list": {"value": [image_bytes]}}}
        return example_pb2.Example(features={"feature": feature}).SerializeToString()

    def default(values):
        return "serving_default", {"image_bytes": strings(values)}

    mixed = [many[0], *NO_IMAGES.values(), many[1]]
    return {
        **{f"batch of {size}": default(many[:size]) for size in BATCHES},
        "again": default(many[: max(BATCHES)]),
        "empty batch": default([]),
        "bad images": default(mixed),
        "strict": ("predict_strict", {"image_bytes": strings(many[:3])}),
        "strict and bad": ("predict_strict", {"image_bytes": strings([b"no image"])}),
        "classify": ("classify", {"inputs": strings([example(b) for b in mixed])}),
        "pixels": ("predict_pixels", {"image": pixels}),
        # Not the photograph: a large JPEG is decoded smaller.
        "pixels as PNG": default([tf.io.encode_png(pixels[0]).numpy()]),
        "features": ("features", {"image_bytes": strings(mixed)}),
    }
