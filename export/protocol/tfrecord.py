"""TensorFlow Serving's messages and tensors, without loading TensorFlow itself.

`import tensorflow` takes seconds and hundreds of megabytes. A client, a server on the C
API and the check outside Python need nothing of it but the generated messages.
"""

import os
import struct
from collections.abc import Iterator


def read_records(path: str | os.PathLike) -> Iterator[bytes]:
    """The records of a TFRecord file, in order.

    Raises:
      ValueError: the file ends within a record.
    """
    with open(path, "rb") as file:
        while header := file.read(12):  # length, and its checksum
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else -1
            record = file.read(length) if 0 <= length <= os.path.getsize(path) else b""
            if len(record) != length or len(file.read(4)) != 4:
                raise ValueError(f"The file ends within a record. Received: {path}")
            yield record
