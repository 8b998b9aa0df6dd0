"""Reads the body of a REST request: decompresses it and parses its JSON."""

import collections
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

from export.local_server.log import to_one_line

# The limit of TensorFlow Serving.
_MAX_DECOMPRESSED_BYTES = 100 << 20

# zlib's code for the header and the checksum of gzip.
_GZIP = 31


def decompress(body: bytes, content_encoding: str) -> bytes:
    """Returns the decompressed body; a body that is not gzip is returned as it is.

    As in TensorFlow Serving, a body is gzip if the name of its encoding contains gzip.
    No other encoding is known.

    Raises:
      ValueError: the body is not gzip or is cut off, or is larger than 100 MiB when it
        is decompressed.
    """
    if not body or "gzip" not in content_encoding:
        return body
    decompressor = zlib.decompressobj(_GZIP)
    try:
        decompressed = decompressor.decompress(body, _MAX_DECOMPRESSED_BYTES)
    except zlib.error as error:
        raise ValueError(f"The body is not gzip: {error}") from error
    if not decompressor.eof:
        raise ValueError(
            "The body must be gzip of at most "
            f"{_MAX_DECOMPRESSED_BYTES} bytes. Received: a part of gzip, or more bytes"
        )
    return decompressed


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses a body that is a JSON object in UTF-8.

    Raises:
      ValueError: the body is something else, a number is too large for a double, or an
        object has a key twice.
    """
    if not body:
        raise ValueError("JSON Parse error: The document is empty")
    try:
        payload = json.loads(
            body.decode("utf-8-sig"),
            object_pairs_hook=_make_object,
            parse_float=_parse_float,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON Parse error: {error}") from error
    if not isinstance(payload, dict):
        raise ValueError(
            f"JSON Value: {to_one_line(payload)} is not an object, as a body must be"
        )
    return payload


def _make_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    counts = collections.Counter(key for key, _ in pairs)
    if len(counts) < len(pairs):
        key, count = counts.most_common(1)[0]
        raise ValueError(f'An object has the key "{to_one_line(key)}" {count} times')
    return dict(pairs)


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"Number too big to be stored in double: {to_one_line(text)}")
    return number
