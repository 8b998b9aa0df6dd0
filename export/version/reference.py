"""Adds the reference that export.drift compares new photographs with."""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from export.c_api.session import Session
from export.drift_check import answers, reference
from export.protocol.status import StatusError
from pipeline.loading import prepared_data

# A random part of a larger split is enough. With more photographs, a comparison with a
# few hundred new ones would hardly be sharper; the embedding has 64 components.
_MAX_VALIDATION, _MAX_TRAINING = 1_000, 500


def add_reference(
    saved_model_dir: pathlib.Path, classes: Sequence[str], data_dir: str | None
) -> None:
    """Computes and writes the reference of a SavedModel from its validation images.

    The SavedModel itself answers, so that new photographs are compared with answers of
    the same model. Without prepared data one line says that there is no reference.

    Args:
      saved_model_dir: a version that is not published yet.
      classes: the K names, in the order of the probabilities.
      data_dir: the prepared data of the run, or None if they are gone.

    Raises:
      OSError: the disk is full or fails.
      ValueError: the SavedModel does not answer.
    """
    if data_dir is None:
        print(
            "the prepared data are gone, so this export holds no reference: "
            "export.drift cannot compare new photographs with it"
        )
        return
    session = Session(str(saved_model_dir))

    def ask(signature: str, images: list[bytes]) -> dict[str, np.ndarray]:
        return session.run(signature, {"image_bytes": np.array(images, object)})

    try:
        training = answers.embed(ask, _read(data_dir, "train", _MAX_TRAINING))
        validation = _read(data_dir, "validation", _MAX_VALIDATION)
        parts = list(answers.ask_in_batches(ask, validation, list))
    except StatusError as error:
        raise ValueError(f"The export does not answer: {error.message}") from error
    finally:
        session.close()
    reference.write_reference(
        saved_model_dir,
        reference.make_reference(answers.join(parts), training, classes),
    )


def _read(data_dir: str, split: str, max_images: int) -> Iterator[bytes]:
    """Yields the encoded images of a split, at most max_images.

    Their stored order is that of hashed keys, so that the first ones are a random part.
    """
    dataset = prepared_data.read_records(data_dir, split, cached=False).dataset
    for example in dataset.take(max_images).as_numpy_iterator():
        yield example["image_bytes"]
