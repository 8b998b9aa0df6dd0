"""Converts between TensorProto messages and numpy arrays, without TensorFlow.

tf.make_tensor_proto and tf.make_ndarray do the same but need Python's TensorFlow.
"""

import math

import numpy as np

from export.protocol.messages import tensor_pb2, tensor_shape_pb2, types_pb2

# A message of a few bytes can ask for any number of copies of one value. The limit
# keeps such a request from taking all memory.
_MAX_COPIES = 1 << 24

# Name of a numpy dtype -> number of TensorFlow's DataType, and the field of a
# TensorProto that holds values of this type.
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
    """Returns the name of a TensorFlow DataType, such as "string" for 7.

    A number that is no DataType is returned as text.
    """
    if number not in types_pb2.DataType.values():
        return str(number)
    return types_pb2.DataType.Name(number).removeprefix("DT_").lower()


def to_array(tensor: tensor_pb2.TensorProto) -> np.ndarray:
    """Converts a TensorProto to an array of the same shape and type.

    A message may hold fewer values than its shape has: the last value is repeated, and
    a message without values becomes zeros (empty strings), as in TensorFlow.

    Returns:
      The array; a tensor of strings becomes an array of dtype object that holds bytes.

    Raises:
      ValueError: the message is not a valid tensor.
    """
    if tensor.dtype not in NUMPY_OF:
        raise ValueError(
            "A tensor has numbers, booleans or strings. Received: dtype="
            f"{dtype_name(tensor.dtype)}"
        )
    dtype = NUMPY_OF[tensor.dtype]
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"A tensor must have a known shape. Received: shape={shape}")
    count = math.prod(shape)
    if tensor.tensor_content and tensor.dtype == types_pb2.DT_STRING:
        raise ValueError("Strings must be in string_val. Received: tensor_content")
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
    if count > max(len(values), _MAX_COPIES):
        raise ValueError(
            f"At most {_MAX_COPIES} values may be left out of a message. "
            f"Received: shape={shape} and {len(values)} values"
        )
    array = (
        np.full(count, b"", object)
        if dtype == np.dtype(object)
        else np.zeros(count, dtype)
    )
    try:
        array[: len(values)] = values
    except OverflowError as error:
        raise ValueError(
            f"A value does not fit the type {dtype}. Received: {error}"
        ) from error
    if values:
        array[len(values) :] = values[-1]
    return array.reshape(shape)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Converts an array to a TensorProto, the inverse of to_array.

    array: numbers, booleans, or bytes in an array of dtype object.
    """
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
