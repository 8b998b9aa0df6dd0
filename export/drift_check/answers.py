"""Asks a model for the embedding and the probabilities of images, and measures them."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from export.drift_check.image_measures import measure_image
from pipeline.audit import duplicates

BATCH_SIZE = 16
_IN_FLIGHT = 2

# Sends encoded images to a signature; returns name -> array [n, ...].
Ask = Callable[[str, list[bytes]], Mapping[str, np.ndarray]]

Item = TypeVar("Item")

_ARRAYS = (
    *("embeddings", "probabilities", "unknown_scores"),
    *("measures", "hashes", "decoded"),
)


@dataclasses.dataclass(frozen=True)
class Answers:
    """The answers of a model for n images, and what is measured of the images.

    embeddings: float32 [n, D].
    probabilities: float32 [n, K].
    unknown_scores: float32 [n], or None if the model has no such output.
    measures: float32 [n, 4]; see image_measures.
    hashes: bool [n, 256]; see perceptual_hash.
    decoded: bool [n]. Where it is False, the other values mean nothing.
    """

    embeddings: np.ndarray
    probabilities: np.ndarray
    unknown_scores: np.ndarray | None
    measures: np.ndarray
    hashes: np.ndarray
    decoded: np.ndarray

    @property
    def class_ids(self) -> np.ndarray:
        """The classes with the largest probability, int64 [n]."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidences(self) -> np.ndarray:
        """The largest probabilities, float32 [n]."""
        return self.probabilities.max(axis=1)

    @property
    def num_classes(self) -> int:
        """K."""
        return self.probabilities.shape[1]

    def take(self, rows: np.ndarray) -> "Answers":
        """Returns the answers for some of the images.

        rows: int [m], their positions, or bool [n].
        """
        arrays: dict[str, Any] = {
            name: getattr(self, name)[rows]
            for name in _ARRAYS
            if getattr(self, name) is not None
        }
        return dataclasses.replace(self, **arrays)


def ask_in_batches(
    ask: Ask,
    items: Iterable[Item],
    read_batch: Callable[[list[Item]], list[bytes]],
) -> Iterator[Answers]:
    """Yields the answers of batches of items, in their order.

    The next batch is read while the model answers.

    Args:
      ask: calls the model.
      items: the items that read_batch reads, such as paths.
      read_batch: returns the encoded images of up to BATCH_SIZE items. An item that
        cannot be read is b"".

    Raises:
      StatusError: the model does not answer.
      ValueError: the model lacks a signature or an output that every export has.
    """
    batches = split(items)
    pool = concurrent.futures.ThreadPoolExecutor(_IN_FLIGHT)
    try:
        pending: list[concurrent.futures.Future[Answers]] = []
        for batch in batches:
            pending.append(pool.submit(_ask_batch, ask, read_batch, batch))
            if len(pending) > _IN_FLIGHT:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def split(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yields the items in lists of BATCH_SIZE; the last list may be shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def _ask_batch(
    ask: Ask, read_batch: Callable[[list[Item]], list[bytes]], batch: list[Item]
) -> Answers:
    images = read_batch(batch)
    measured = [_measure(image_bytes) for image_bytes in images]
    # For a damaged JPEG, TensorFlow would print a line of its own.
    images = [
        image_bytes if is_measured else b""
        for image_bytes, (_, _, is_measured) in zip(images, measured, strict=True)
    ]
    features = _ask_checked(ask, "features", images)
    predicted = _ask_checked(ask, "serving_default", images)
    return Answers(
        embeddings=features["embedding"].astype(np.float32),
        probabilities=predicted["probabilities"].astype(np.float32),
        unknown_scores=predicted.get("unknown_score"),
        measures=np.stack([measures for measures, _, _ in measured]),
        hashes=np.stack([hash_bits for _, hash_bits, _ in measured]),
        decoded=features["decode_ok"]
        & predicted["decode_ok"]
        & np.array([is_measured for _, _, is_measured in measured]),
    )


def _measure(image_bytes: bytes) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns measures, hash and whether Pillow can decode the image."""
    try:
        return (*measure_image(image_bytes), True)
    # For a damaged file Pillow raises exceptions of any type.
    except Exception:
        return np.zeros(4, np.float32), np.zeros(256, bool), False


_OUTPUTS = {
    "features": ("embedding", "decode_ok"),
    "serving_default": ("probabilities", "decode_ok"),
}


def _ask_checked(
    ask: Ask, signature: str, images: list[bytes]
) -> Mapping[str, np.ndarray]:
    outputs = ask(signature, images)
    for name in _OUTPUTS[signature]:
        if name not in outputs or len(outputs[name]) != len(images):
            raise ValueError(
                f"The signature {signature} must return "
                f"{' and '.join(_OUTPUTS[signature])} for each image. Received: "
                f"{', '.join(sorted(outputs)) or 'nothing'}"
            )
    return outputs


def join(parts: Sequence[Answers]) -> Answers:
    """Joins the answers of one or more batches, in their order."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _ARRAYS
        if getattr(parts[0], name) is not None
    }
    return dataclasses.replace(parts[0], **arrays)


def embed(ask: Ask, images: Iterable[bytes]) -> np.ndarray:
    """Returns the embeddings of the images that can be decoded, float32 [t, D].

    images: encoded, at least one.

    Raises:
      StatusError, ValueError: see ask_in_batches.
    """
    parts = []
    for batch in split(images):
        features = _ask_checked(ask, "features", batch)
        parts.append(features["embedding"][features["decode_ok"]])
    return np.concatenate(parts)


def find_near_duplicates(hashes: np.ndarray) -> np.ndarray:
    """Finds the images that are a near duplicate of an earlier one.

    The tests need independent images, and the images of one burst are not.

    hashes: bool [n, 256].

    Returns:
      bool [n], False for the first image of each group.
    """
    pairs = duplicates.find_pairs(hashes, max_bits=duplicates.NEAR_DUPLICATE_BITS)
    groups = duplicates.group_pairs(*pairs[:2], count=len(hashes))
    repeated = np.ones(len(hashes), bool)
    repeated[np.unique(groups, return_index=True)[1]] = False
    return repeated
