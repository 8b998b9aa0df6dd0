"""TensorFlow Serving's messages and tensors, without loading TensorFlow itself.

`import tensorflow` takes seconds and hundreds of megabytes. A client, a server on the C
API and the check outside Python need nothing of it but the generated messages.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator

import google.protobuf.message
from google.protobuf import json_format


@contextlib.contextmanager
def _bare_tensorflow() -> Iterator[None]:
    """Lets the generated messages import a `tensorflow` that is but a folder.

    It is taken away again, so that a later `import tensorflow` is the real one; where
    that is loaded already, it serves.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    bare = types.ModuleType("tensorflow")
    spec = importlib.util.find_spec("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with _bare_tensorflow():
    from tensorflow.core.example import example_pb2
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_log_pb2,
        prediction_service_pb2_grpc,
    )
    from tensorflow_serving.config import model_server_config_pb2

__all__ = [
    "classification_pb2",
    "example_pb2",
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "meta_graph_pb2",
    "metadata_to_dict",
    "model_pb2",
    "model_server_config_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_log_pb2",
    "prediction_service_pb2_grpc",
    "tensor_pb2",
    "tensor_shape_pb2",
    "to_dict",
    "types_pb2",
]

# What every server calls the model, and so part of its addresses.
MODEL_NAME = "photographs"

# Beside the versions: which of them are served, and under which labels.
MODELS_FILE = "models.config"


def to_dict(message: google.protobuf.message.Message) -> dict:
    """A message as TensorFlow Serving's REST shows it, every field included."""
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def metadata_to_dict(response: get_model_metadata_pb2.GetModelMetadataResponse) -> dict:
    """The signatures are packed, so a message of their own; see to_dict."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        "model_spec": to_dict(response.model_spec),
        "metadata": {"signature_def": to_dict(signatures)},
    }


WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
CLASSIFY_METHOD = "tensorflow/serving/classify"


CLASSIFY_KEY = "image/encoded"


# What a batching server fills its batches up to; see deploy.py.
WARMUP_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
