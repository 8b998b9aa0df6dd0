"""Imports TensorFlow Serving's messages without Python's TensorFlow.

`import tensorflow` takes seconds and hundreds of megabytes. The client, the local
server and the check on the C API need only the generated message classes.
"""

import google.protobuf.message
from google.protobuf import json_format

from pipeline.inspection.formats import MAX_PIXELS
from pipeline.system.bare_tensorflow import bare_tensorflow

with bare_tensorflow():
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

# The name of the model in every request and in the server's addresses.
MODEL_NAME = "photographs"

# In the export directory: the versions that a server loads, and their labels.
MODELS_FILE = "models.config"

# In the directory of a version: the requests that a server answers while it loads it.
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

# The batch sizes of the warm-up requests. A server that batches pads each batch to one
# of them, see batching_parameters.txt.
WARMUP_BATCH_SIZES = (1, 2, 4, 8, 16, 32)

# The methods of the signatures that TensorFlow Serving's Classify and Regress call, and
# the feature of a tf.train.Example that holds the image.
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
CLASSIFY_KEY = "image/encoded"

# How many pixels the images of one request, or of one batch of a server, may have
# together. Eight of the largest images may, the client's default batch; and 32 of 25
# million pixels, the largest batch of TensorFlow Serving with the files of an export.
MAX_REQUEST_PIXELS = 8 * MAX_PIXELS


def to_dict(message: google.protobuf.message.Message) -> dict:
    """Converts a message to the dictionary that TensorFlow Serving's REST API returns.

    Fields that are not set appear with their default value.
    """
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def metadata_to_dict(response: get_model_metadata_pb2.GetModelMetadataResponse) -> dict:
    """Converts a reply of GetModelMetadata as to_dict does.

    It is a function of its own because the reply holds the signatures as a packed
    message (google.protobuf.Any), which is unpacked first.
    """
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        "model_spec": to_dict(response.model_spec),
        "metadata": {"signature_def": to_dict(signatures)},
    }
