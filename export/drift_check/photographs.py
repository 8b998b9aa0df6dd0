"""Reads new photographs and asks a model for its answers."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from export.drift_check import answers
from export.drift_check.answers import Answers, Ask
from export.drift_check.comparison import LeftOut
from export.remote import image_files
from pipeline.inspection.reencoding import StoredForm
from pipeline.system import console
from pipeline.system.texts import escape_controls


def ask_for_photographs(
    ask: Ask, paths: Sequence[str]
) -> tuple[Answers, list[str], list[LeftOut]]:
    """Reads photographs as the preparation does, and asks a model for its answers.

    It shows the progress.

    Args:
      ask: calls the model.
      paths: the photographs, at least one.

    Returns:
      The answers for the photographs that were decoded, the paths of these, and the
      photographs that were left out.

    Raises:
      ValueError: no photograph can be decoded, or the model does not answer.
    """
    reasons: dict[str, str] = {}
    find_form = functools.cache(functools.partial(ask_for_stored_form, ask))

    def read_batch(batch: Sequence[str]) -> list[bytes]:
        return [_read(path, find_form, reasons) for path in batch]

    parts: list[Answers] = []
    # The progress counts photographs, but the answers come in batches.
    rows = (
        (index, part)
        for part in answers.ask_in_batches(ask, paths, read_batch)
        for index in range(len(part.decoded))
    )
    for index, part in console.track(
        rows, total=len(paths), label="compare", unit="photographs"
    ):
        if index == 0:
            parts.append(part)
    joined = answers.join(parts)
    left_out = [
        LeftOut(
            name=escape_controls(paths[row]),
            reason=reasons.get(paths[row], "not decodable"),
        )
        for row in np.flatnonzero(~joined.decoded).tolist()
    ]
    if not joined.decoded.any():
        raise ValueError(
            f"None of the photographs can be read and decoded. Received: {len(paths)}, "
            f"the first is '{left_out[0]['name']}': {left_out[0]['reason']}"
        )
    decoded_paths = [paths[row] for row in np.flatnonzero(joined.decoded).tolist()]
    return joined.take(joined.decoded), decoded_paths, left_out


def ask_for_stored_form(ask: Ask) -> StoredForm:
    """Asks the model how its training images were stored.

    Raises:
      ValueError: the model does not answer.
    """
    outputs = ask("preparation", [b""])
    return StoredForm(
        background=outputs["background"][0].decode(),
        sample_bits=int(outputs["sample_bits"][0]),
    )


def _read(
    path: str, find_form: Callable[[], StoredForm], reasons: dict[str, str]
) -> bytes:
    """Returns the image, or b"" and notes the reason if it cannot be read."""
    try:
        image_bytes = image_files.read_as_stored(path, find_form)
    except OSError as error:
        reasons[path] = error.strerror or str(error)
        return b""
    if not image_bytes:
        reasons[path] = "empty file"
    return image_bytes
