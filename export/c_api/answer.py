"""A SavedModel on TensorFlow's C API: what TensorFlow Serving's own loader builds on.

Nothing of Python's TensorFlow is loaded. As a command it answers a file of requests,
which is how an export is tried before anybody sees it:
`python -m export.session SAVED_MODEL REQUESTS REPLIES`.
"""

import pathlib
import pickle
import sys

import numpy as np

from export.c_api.session import Session
from export.protocol import messages, tensors
from export.protocol.status import StatusError
from export.protocol.tfrecord import read_records


def replay_warmup(session: Session, saved_model_dir: str) -> int:
    """Answers the requests of a model's warm-up file; returns how many there are.

    Raises:
      StatusError: one cannot be answered.
      ValueError: the file is damaged.
    """
    path = pathlib.Path(saved_model_dir, messages.WARMUP_FILE)
    count = 0
    for record in read_records(path):
        count += 1
        log = messages.prediction_log_pb2.PredictionLog.FromString(record)
        if log.HasField("classify_log"):
            request = log.classify_log.request
            examples = request.input.example_list.examples
            encoded = [example.SerializeToString() for example in examples]
            inputs = {"inputs": np.array(encoded, object)}
        else:
            request = log.predict_log.request
            inputs = {
                name: tensors.to_array(tensor)
                for name, tensor in request.inputs.items()
            }
        session.run(request.model_spec.signature_name or "serving_default", inputs)
    return count


def answer(saved_model_dir: str, requests: list[tuple[str, dict]]) -> dict:
    """Loads a SavedModel, replays its warm-up and answers requests.

    requests: (signature, inputs) each.

    Returns:
      signatures: name -> serialized SignatureDef; warmed_up: number of requests;
      replies: for each request its outputs, or (code, message); python_tensorflow:
      whether Python's TensorFlow was loaded after all.
    """
    session = Session(saved_model_dir)
    warmed_up = replay_warmup(session, saved_model_dir)
    replies = []
    for signature, inputs in requests:
        try:
            replies.append(session.run(signature, inputs))
        except StatusError as error:
            replies.append((error.code, error.message))
    declared = {k: v.SerializeToString() for k, v in session.signatures.items()}
    session.close()
    return {
        "signatures": declared,
        "warmed_up": warmed_up,
        "replies": replies,
        "python_tensorflow": "tensorflow.python" in sys.modules,
    }


def main(saved_model_dir: str, requests_path: str, replies_path: str) -> None:
    """See the module; requests and replies are pickles of what answer() takes."""
    requests = pickle.loads(pathlib.Path(requests_path).read_bytes())
    try:
        answered = answer(saved_model_dir, requests)
    except (StatusError, ValueError, OSError) as error:
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
    pathlib.Path(replies_path).write_bytes(pickle.dumps(answered))


if __name__ == "__main__":
    main(*sys.argv[1:])
