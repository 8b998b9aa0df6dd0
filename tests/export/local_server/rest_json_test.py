import contextlib
import json
import re

import numpy as np
import pytest
from fakes.server_requests import call_rest, to_base64
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from export.local_server.rest_json import array_to_json, json_to_array


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["float32", "float64", "int64", "uint8", "int32"]).flatmap(
        lambda dtype: st_numpy.arrays(
            dtype, st_numpy.array_shapes(max_dims=4, max_side=4)
        )
    )
)
def test_an_array_comes_back_through_json(array):
    back = json_to_array(json.loads(json.dumps(array_to_json(array))), array.dtype)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_bytes_come_back_through_json(values):
    found = json_to_array([to_base64(value) for value in values], np.dtype(object))
    assert found.tolist() == values


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.just({"b64": "AA"}),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "b64", "image_bytes", "image"]), inner, max_size=2
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(_JSON, st.sampled_from(["float32", "uint8", "object"]))
def test_any_json_is_a_tensor_or_a_value_error(value, dtype):
    with contextlib.suppress(ValueError):
        assert json_to_array(value, np.dtype(dtype)).dtype == dtype


@pytest.mark.parametrize("value", [3.5e38, -1e300])
def test_a_number_above_float32_is_refused_and_infinity_is_not(value):
    with pytest.raises(ValueError, match=re.escape(str(value))):
        json_to_array([0.5, value], np.dtype("float32"))
    assert json_to_array([float("inf")], np.dtype("float32"))[0] == np.inf


def test_numbers_are_written_short():
    numbers = np.array([0.2, 3, 1e-5, np.inf], np.float32)
    assert json.dumps(array_to_json(numbers)) == "[0.2, 3.0, 1e-05, Infinity]"


@pytest.mark.parametrize("value", [256, -1, 1.0, None, "1", 10**400, True, [1]])
def test_what_is_no_pixel_is_refused(value):
    with pytest.raises(ValueError, match="uint8"):
        json_to_array([0, value], np.dtype(np.uint8))


@pytest.mark.parametrize("text", ["AP8=", "AP8", " A\nP8 =", "AP8=="])
def test_base64_needs_no_padding(text):
    array = json_to_array([{"b64": text}], np.dtype(object))
    assert array.tolist() == [b"\x00\xff"]


@pytest.mark.parametrize("text", ["?", "A", "AP8\u00e9", "AP=8", "AP8-"])
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(ValueError, match="Not base64"):
        json_to_array([{"b64": text}], np.dtype(object))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    _JSON,
    st.sampled_from(["instances", "inputs", "examples", "signature_name"]),
    st.sampled_from(["serving_default", "predict_pixels", "classify", "echo"]),
    st.sampled_from(["predict", "classify"]),
)
def test_any_body_is_answered_or_refused(server, value, key, signature, action):
    body = {"signature_name": signature, "instances": [""], key: value}
    status, _ = call_rest(server, "POST", f":{action}", body)
    assert status in (200, 400)
