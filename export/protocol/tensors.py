"""TensorFlow Serving's messages and tensors, without loading TensorFlow itself.

`import tensorflow` takes seconds and hundreds of megabytes. A client, a server on the C
API and the check outside Python need nothing of it but the generated messages.
"""

import math

import numpy as np

from export.protocol.messages import tensor_pb2, tensor_shape_pb2, types_pb2

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
