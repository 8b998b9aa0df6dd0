"""TensorFlow Serving's messages and tensors, without loading TensorFlow itself.

`import tensorflow` takes seconds and hundreds of megabytes. A client, a server on the C
API and the check outside Python need nothing of it but the generated messages.
"""

import contextlib
import importlib.util
import math
import os
import struct
import sys
import types
from collections.abc import Iterator

import google.protobuf.message
import numpy as np
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
    "dtype_name",
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
    "read_records",
    "tensor_pb2",
    "to_array",
    "to_dict",
    "to_proto",
    "types_pb2",
]

# What every server calls the model, and so part of its addresses.
MODEL_NAME = "photographs"

# Beside the versions: which of them are served, and under which labels.
MODELS_FILE = "models.config"

_MAX_COPIES = 1 << 24

# numpy's type -> TensorFlow's number for it, and the message field that may hold it.
DTYPES = {
    "float32": (types_pb2.DT_FLOAT, "float_val"),
    "float64": (types_pb2.DT_DOUBLE, "double_val"),
    "int8": (types_pb2.DT_INT8, "int_val"),
    "int16": (types_pb2.DT_INT16, "int_val"),
    "int32": (types_pb2.DT_INT32, "int_val"),
    "int64": (types_pb2.DT_INT64, "int64_val"),
    "uint8": (types_pb2.DT_UINT8, "int_val"),
    "uint16": (types_pb2.DT_UINT16, "int_val"),
    "uint32": (types_pb2.DT_UINT32, "uint32_val"),
    "uint64": (types_pb2.DT_UINT64, "uint64_val"),
    "bool": (types_pb2.DT_BOOL, "bool_val"),
    "object": (types_pb2.DT_STRING, "string_val"),
}
NUMPY_OF = {number: np.dtype(name) for name, (number, _) in DTYPES.items()}
_FIELD_OF = dict(DTYPES.values())


def dtype_name(number: int) -> str:
    """TensorFlow's number for a type -> its name there, such as "string"."""
    if number not in types_pb2.DataType.values():
        return str(number)
    return types_pb2.DataType.Name(number).removeprefix("DT_").lower()


def to_array(tensor: tensor_pb2.TensorProto) -> np.ndarray:
    """A tensor message -> an array; strings are bytes in an array of objects.

    Fewer values than the shape asks for are filled up with the last one, none with
    zeros, as TensorFlow does.

    Raises:
      ValueError: the message does not describe a tensor.
    """
    if tensor.dtype not in NUMPY_OF:
        raise ValueError(
            "Tensors are of numbers, booleans or strings. Received: dtype="
            f"{dtype_name(tensor.dtype)}"
        )
    dtype = NUMPY_OF[tensor.dtype]
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"A tensor's shape is known. Received: shape={shape}")
    count = math.prod(shape)
    if tensor.tensor_content and tensor.dtype == types_pb2.DT_STRING:
        raise ValueError("Strings are in string_val. Received: tensor_content")
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * dtype.itemsize:
            raise ValueError(
                f"A tensor of shape {shape} and type {dtype} has "
                f"{count * dtype.itemsize} bytes. Received: "
                f"{len(tensor.tensor_content)} bytes"
            )
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = getattr(tensor, _FIELD_OF[tensor.dtype])
    if len(values) > count:
        raise ValueError(
            f"A tensor of shape {shape} has {count} values. Received: {len(values)}"
        )
    # Of one value a message may ask for any number of copies.
    if count > max(len(values), _MAX_COPIES):
        raise ValueError(
            f"A tensor has at most {_MAX_COPIES} values that it does not spell out. "
            f"Received: shape={shape} and {len(values)} values"
        )
    array = (
        np.full(count, b"", object)
        if dtype == np.dtype(object)
        else (np.zeros(count, dtype))
    )
    try:
        array[: len(values)] = values
    except OverflowError as error:
        raise ValueError(f"Values fit their type. Received: {error}") from error
    if values:
        array[len(values) :] = values[-1]
    return array.reshape(shape)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """The inverse of to_array; strings are bytes in an array of objects."""
    number, _ = DTYPES[array.dtype.name]
    shape = tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
    )
    tensor = tensor_pb2.TensorProto(dtype=number, tensor_shape=shape)
    if array.dtype == object:
        tensor.string_val.extend(array.ravel().tolist())
    else:
        tensor.tensor_content = array.tobytes()
    return tensor


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


def read_records(path: str | os.PathLike) -> Iterator[bytes]:
    """The records of a TFRecord file, in order.

    Raises:
      ValueError: the file ends within a record.
    """
    with open(path, "rb") as file:
        while header := file.read(12):  # length, and its checksum
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else -1
            record = file.read(length) if 0 <= length <= os.path.getsize(path) else b""
            if len(record) != length or len(file.read(4)) != 4:
                raise ValueError(f"The file ends within a record. Received: {path}")
            yield record
