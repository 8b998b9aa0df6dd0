"""What a SavedModel must pass before anybody sees it.

Each gate gives the problems it finds, as sentences; none at all opens it.
"""

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from export.checks.graph_checks import (
    find_graph_problems,
    find_weight_problems,
)
from export.checks.reply_checks import (
    find_reply_problems,
    find_signature_problems,
)
from export.checks.requests import Expected, make_requests, repeat


def check_export(
    saved_model_dir: pathlib.Path,
    photographs: Sequence[bytes],
    pixels: np.ndarray,
    expected: Expected,
) -> float:
    """Tries a SavedModel in every way; see the functions below.

    Args:
      photographs: N encoded images.
      pixels: uint8 [1, H, W, 3], the first of them, decoded.

    Returns:
      The largest difference of a probability from the in-memory model's.

    Raises:
      ValueError: a gate stays shut; lists all problems.
    """
    problems = [
        *find_graph_problems(saved_model_dir),
        *find_weight_problems(saved_model_dir, expected.weight_bytes),
    ]
    requests = make_requests(photographs, pixels)
    try:
        answered = answer_outside_python(saved_model_dir, list(requests.values()))
    except ValueError as error:
        answered, found = None, [str(error)]
    else:
        replies = dict(zip(requests, answered["replies"], strict=True))
        found = find_signature_problems(answered["signatures"], expected)
        found = found or find_reply_problems(replies, expected)
    problems += found
    if problems:
        raise ValueError(
            f"The export was not published: {'; '.join(problems)}. Nothing that is "
            "served has changed."
        )
    got = replies["batch of 64"]["probabilities"]
    return float(np.abs(got - repeat(expected.probabilities, len(got))).max())


def answer_outside_python(saved_model_dir: pathlib.Path, requests: list) -> dict:
    """Runs session.answer in a process that never loads Python's TensorFlow.

    Raises:
      ValueError: the model does not load, or its warm-up fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, replied = (os.path.join(folder, name) for name in ("asked", "replied"))
        with open(asked, "wb") as file:
            pickle.dump(requests, file)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "export.session"),
                *(str(saved_model_dir.resolve()), asked, replied),
            ],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            cwd=pathlib.Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise ValueError(
                f"TensorFlow's C API does not run it: {lines[-1].strip()[:500]}"
            )
        with open(replied, "rb") as file:
            answered = pickle.load(file)
    if answered["python_tensorflow"]:
        raise ValueError("the check loaded Python's TensorFlow")
    if not answered["warmed_up"]:
        raise ValueError("its warm-up file holds no request")
    return answered
