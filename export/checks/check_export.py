"""Runs all checks of a SavedModel before it is published."""

import pathlib
from collections.abc import Sequence

import numpy as np

from export.checks.c_api_process import answer_with_c_api
from export.checks.check_requests import (
    MAX_BATCH_SIZE,
    ExpectedExport,
    Replies,
    make_requests,
    repeat_rows,
)
from export.checks.graph_checks import find_graph_problems, find_weight_problems
from export.checks.reply_checks import find_reply_problems, find_signature_problems


def check_export(
    saved_model_dir: pathlib.Path,
    images: Sequence[bytes],
    pixels: np.ndarray,
    expected: ExpectedExport,
) -> float:
    """Checks the graph, the checkpoint, the signatures and the replies of a SavedModel.

    Args:
      saved_model_dir: directory of the SavedModel, with its warm-up requests.
      images: N encoded images.
      pixels: uint8 [1, H, W, 3], the first image, decoded.
      expected: the properties that the export must have.

    Returns:
      The largest difference between a probability of the export and the same
      probability of the model in memory.

    Raises:
      ValueError: a check failed; the message lists all problems.
    """
    problems = [
        *find_graph_problems(saved_model_dir),
        *find_weight_problems(saved_model_dir, expected.weight_bytes),
    ]
    difference = float("nan")
    requests = make_requests(images, pixels)
    try:
        answer = answer_with_c_api(saved_model_dir, list(requests.values()))
    except ValueError as error:
        problems.append(str(error))
    else:
        replies = dict(zip(requests, answer["replies"], strict=True))
        reply_problems = find_signature_problems(answer["signatures"], expected)
        # Replies of other signatures than declared cannot be compared.
        reply_problems = reply_problems or find_reply_problems(replies, expected)
        problems += reply_problems
        if not reply_problems:
            difference = _largest_difference(replies, expected)
    if problems:
        raise ValueError(
            f"The export was not published: {'; '.join(problems)}. Nothing that is "
            "served has changed."
        )
    return difference


def _largest_difference(replies: Replies, expected: ExpectedExport) -> float:
    outputs = replies[f"batch of {MAX_BATCH_SIZE}"]
    assert isinstance(outputs, dict)  # find_reply_problems() found no failure.
    expected_rows = repeat_rows(expected.replies["probabilities"], MAX_BATCH_SIZE)
    return float(np.abs(outputs["probabilities"] - expected_rows).max())
