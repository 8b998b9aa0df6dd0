"""Replays the warm-up requests of a SavedModel and answers requests from a file.

As a command, `python -m export.c_api.answer SAVED_MODEL REQUESTS REPLIES`, it checks an
export before it is published.
"""

import pathlib
import pickle
import sys
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from export.c_api.session import Session
from export.protocol import messages, tensors
from export.protocol.exchange import Answer, Arrays, Failure, Request
from export.protocol.messages import prediction_log_pb2
from export.protocol.status import StatusError
from pipeline.system.tfrecord import read_records

_WARMUP_THREADS = 2


def replay_warmup(session: Session, saved_model_dir: str) -> int:
    """Runs the requests in a model's warm-up file, a few at the same time.

    TensorFlow plans the graph of a signature on one core, when the first request comes.

    Returns:
      The number of requests.

    Raises:
      OSError: the file cannot be read.
      StatusError: the model cannot answer a request.
      ValueError: the file is damaged.
    """
    records = read_records(pathlib.Path(saved_model_dir, messages.WARMUP_FILE))

    def run(record: bytes) -> None:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        session.run(*_read_request(log))

    with futures.ThreadPoolExecutor(_WARMUP_THREADS) as pool:
        return len(list(pool.map(run, records)))


def _read_request(log: prediction_log_pb2.PredictionLog) -> Request:
    """Returns the signature and the inputs of a recorded request."""
    if log.HasField("classify_log"):
        classify_request = log.classify_log.request
        examples = classify_request.input.example_list.examples
        serialized = [example.SerializeToString() for example in examples]
        return (
            classify_request.model_spec.signature_name or "serving_default",
            {"inputs": np.array(serialized, object)},
        )
    request = log.predict_log.request
    return (
        request.model_spec.signature_name or "serving_default",
        {name: tensors.to_array(tensor) for name, tensor in request.inputs.items()},
    )


def answer(saved_model_dir: str, requests: Sequence[Request]) -> Answer:
    """Loads a SavedModel, replays its warm-up requests and answers other requests.

    Raises:
      OSError: the warm-up file cannot be read, or TensorFlow's C library is missing.
      StatusError: the model does not load, or it cannot answer a warm-up request.
      ValueError: the warm-up file is damaged.
    """
    session = Session(saved_model_dir)
    warmed_up = replay_warmup(session, saved_model_dir)
    replies: list[Arrays | Failure] = []
    for signature, inputs in requests:
        try:
            replies.append(session.run(signature, inputs))
        except StatusError as error:
            replies.append((error.code, error.message))
    signatures = {
        name: signature_def.SerializeToString()
        for name, signature_def in session.signatures.items()
    }
    session.close()
    return {
        "signatures": signatures,
        "warmed_up": warmed_up,
        "replies": replies,
        "python_tensorflow": "tensorflow.python" in sys.modules,
    }


def main(saved_model_dir: str, requests_path: str, replies_path: str) -> None:
    """Answers a pickled list of requests and writes a pickled Answer.

    If that fails, the last line on stderr names the reason.
    """
    requests = pickle.loads(pathlib.Path(requests_path).read_bytes())
    try:
        replies = answer(saved_model_dir, requests)
    except (StatusError, ValueError, OSError) as error:
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
    pathlib.Path(replies_path).write_bytes(pickle.dumps(replies))


if __name__ == "__main__":
    main(*sys.argv[1:])
