import numpy as np
import pytest
import tensorflow as tf

from export.protocol import tensors
from export.protocol.messages import tensor_pb2, tensor_shape_pb2, types_pb2


def _proto(number: int, shape: list[int], **fields) -> tensor_pb2.TensorProto:
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    return tensor_pb2.TensorProto(
        dtype=number, tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims), **fields
    )


@pytest.mark.parametrize("name", sorted(set(tensors.DTYPES) - {"object"}))
def test_numbers_convert_as_in_tensorflow(name):
    array = np.array([[0, 1, 1], [1, 0, 1]], name)
    np.testing.assert_array_equal(tf.make_ndarray(tensors.to_proto(array)), array)
    for proto in (tensors.to_proto(array), tf.make_tensor_proto(array)):
        np.testing.assert_array_equal(tensors.to_array(proto), array)
        assert tensors.to_array(proto).dtype == array.dtype


def test_strings_convert_as_in_tensorflow():
    array = np.array([[b"a", b""], [b"\xff\0", b"b"]], object)
    proto = tensors.to_proto(array)
    assert proto == tf.make_tensor_proto(array)
    np.testing.assert_array_equal(tensors.to_array(proto), array)


@pytest.mark.parametrize(
    ("proto", "values"),
    [
        (_proto(types_pb2.DT_FLOAT, [3], float_val=[1, 2]), [1, 2, 2]),
        (_proto(types_pb2.DT_INT64, [3]), [0, 0, 0]),
        (_proto(types_pb2.DT_STRING, [2]), [b"", b""]),
        (_proto(types_pb2.DT_STRING, [2], string_val=[b"x"]), [b"x", b"x"]),
        (_proto(types_pb2.DT_BOOL, [0, 5]), []),
    ],
)
def test_values_that_a_message_leaves_out_are_filled_in(proto, values):
    array = tensors.to_array(proto)
    assert array.ravel().tolist() == values
    assert array.shape == tuple(dim.size for dim in proto.tensor_shape.dim)


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (_proto(types_pb2.DT_COMPLEX64, []), "Received: dtype=complex64"),
        (_proto(99, []), "Received: dtype=99"),
        (_proto(types_pb2.DT_FLOAT, [-1]), r"Received: shape=\(-1,\)"),
        (
            _proto(types_pb2.DT_FLOAT, [2], tensor_content=b"123"),
            "has 8 bytes. Received: 3 bytes",
        ),
        (_proto(types_pb2.DT_STRING, [1], tensor_content=b"1"), "string_val"),
        (
            _proto(types_pb2.DT_FLOAT, [1], float_val=[1, 2]),
            "has 1 values. Received: 2",
        ),
        (
            _proto(types_pb2.DT_UINT8, [1 << 40], int_val=[1]),
            "may be left out of a message",
        ),
        (_proto(types_pb2.DT_UINT8, [1], int_val=[256]), "does not fit the type uint8"),
    ],
)
def test_a_message_that_is_no_tensor_is_an_error(proto, message):
    with pytest.raises(ValueError, match=message):
        tensors.to_array(proto)


def test_the_names_of_types_are_those_of_tensorflow():
    assert tensors.dtype_name(types_pb2.DT_STRING) == "string"
    assert tensors.dtype_name(types_pb2.DT_FLOAT) == tf.float32.name.removesuffix("32")
    assert tensors.dtype_name(99) == "99"
