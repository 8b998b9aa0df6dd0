"""Reads a few examples of prepared data, without TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Collection

from pipeline.system.bare_tensorflow import bare_tensorflow
from pipeline.system.tfrecord import locate_records


@dataclasses.dataclass(frozen=True)
class StoredExample:
    """A photograph as it is stored.

    name: relative name in the source.
    image_bytes: the encoded image.
    """

    name: str
    image_bytes: bytes


def read_examples(
    data_dir: pathlib.Path, split: str, positions: Collection[int]
) -> dict[int, StoredExample]:
    """Reads the examples of a split at some positions.

    Args:
      data_dir: directory that pipeline.main wrote.
      split: train, validation or test.
      positions: they count from 0, in stored order over all shards.

    Returns:
      position -> example; without positions that the split does not have.

    Raises:
      OSError: a shard cannot be read.
      ValueError: a shard is damaged.
    """
    with bare_tensorflow():
        from google.protobuf.message import DecodeError
        from tensorflow.core.example import example_pb2

    examples = {}
    position = 0
    for shard in sorted(data_dir.glob(f"*-{split}.tfrecord-*-of-*")):
        with open(shard, "rb") as file:
            for offset, length in locate_records(shard):
                if position in positions:
                    file.seek(offset)
                    try:
                        example = example_pb2.Example.FromString(file.read(length))
                    except DecodeError as error:
                        raise ValueError(
                            f"A record is damaged: {error}. Received: {shard}; prepare "
                            "the data again with python -m pipeline.main."
                        ) from error
                    examples[position] = _to_stored_example(example.features.feature)
                position += 1
    return examples


def _to_stored_example(feature) -> StoredExample:
    """Reads the fields of a tf.train.Example; a field that is absent is empty."""
    name, image = (b"".join(feature[key].bytes_list.value) for key in ("name", "image"))
    return StoredExample(name.decode(errors="replace"), image)
