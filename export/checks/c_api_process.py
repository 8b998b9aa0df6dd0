"""Sends requests to a SavedModel in a process without Python's TensorFlow."""

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from export.protocol.exchange import Answer, Request

# The directory that holds the package `export`: the repository, or site-packages.
_IMPORT_ROOT = pathlib.Path(__file__).resolve().parents[2]


def answer_with_c_api(
    saved_model_dir: pathlib.Path, requests: Sequence[Request]
) -> Answer:
    """Loads a SavedModel on the C API, replays its warm-up and sends the requests.

    TensorFlow Serving builds on the same loader. A model that needs Python, or files
    that are no longer there, fails here as it would fail on a server.

    Raises:
      ValueError: the model does not load, its warm-up fails or holds no request.
    """
    with tempfile.TemporaryDirectory() as folder:
        requests_path = pathlib.Path(folder, "requests")
        replies_path = pathlib.Path(folder, "replies")
        requests_path.write_bytes(pickle.dumps(list(requests)))
        completed = subprocess.run(
            [
                # -P: a file of the working directory must not hide a package.
                *(sys.executable, "-P", "-m", "export.c_api.answer"),
                *(saved_model_dir.resolve(), requests_path, replies_path),
            ],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if completed.returncode:
            lines = completed.stderr.strip().splitlines()
            reason = lines[-1].strip() if lines else f"status {completed.returncode}"
            raise ValueError(f"TensorFlow's C API does not run it: {reason[:500]}")
        answer: Answer = pickle.loads(replies_path.read_bytes())
    if answer["python_tensorflow"]:
        raise ValueError("the check loaded Python's TensorFlow")
    if not answer["warmed_up"]:
        raise ValueError("its warm-up file holds no request")
    return answer


def _environment() -> dict[str, str]:
    import_paths = [str(_IMPORT_ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, import_paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
