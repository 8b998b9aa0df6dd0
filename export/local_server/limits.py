"""Refuses requests whose images have too many pixels together, before they are run.

TensorFlow Serving joins requests of several clients into a batch, so only the graph can
count the pixels; it treats the largest images as bad ones, see
export/graph/safe_decoding.py. The local server runs each request as its own batch, and
can therefore refuse the request and say why.
"""

import io
from collections.abc import Mapping

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from export.protocol.messages import CLASSIFY_KEY, MAX_REQUEST_PIXELS, example_pb2
from export.protocol.status import Code, StatusError
from pipeline.inspection.formats import DECODABLE_FORMATS, MAX_PIXELS


def check_pixels(inputs: Mapping[str, np.ndarray]) -> None:
    """Checks that the images of a request have at most MAX_REQUEST_PIXELS together.

    It counts them by the headers. The code of the error is INVALID_ARGUMENT, as for a
    batch of too many rows in TensorFlow Serving. RESOURCE_EXHAUSTED would become the
    HTTP status 429, and a client would repeat a request that can never be answered.

    Args:
      inputs: name -> array, of a signature. An array of strings holds images; under the
        key "inputs" it holds serialized tf.train.Examples.

    Raises:
      StatusError: the images have more pixels.
    """
    total = 0
    for key, values in inputs.items():
        # This number of images is always allowed, however large they are.
        if values.dtype != object or values.size <= MAX_REQUEST_PIXELS // MAX_PIXELS:
            continue
        for value in values.ravel():
            total += _count_pixels(_find_image(value) if key == "inputs" else value)
    if total > MAX_REQUEST_PIXELS:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"The images of a request must have at most {MAX_REQUEST_PIXELS} pixels "
            f"together; send fewer in one request. Received: {total} pixels",
        )


def _find_image(serialized: bytes) -> bytes:
    try:
        features = example_pb2.Example.FromString(serialized).features.feature
    except DecodeError:
        return b""
    values = features[CLASSIFY_KEY].bytes_list.value
    return values[0] if values else b""


def _count_pixels(image_bytes: bytes) -> int:
    """Returns the pixels that the graph would decode: 0 if it refuses the image."""
    try:
        with Image.open(io.BytesIO(image_bytes), formats=DECODABLE_FORMATS) as image:
            pixels = image.width * image.height
    # For a damaged file Pillow raises exceptions of any type.
    except Exception:
        return 0
    return pixels if pixels <= MAX_PIXELS else 0
