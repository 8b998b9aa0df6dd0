import http.client

import pytest
from fakes.server_requests import BLUE, GREEN, NO_IMAGE, RED, call_rest, to_base64

from export.protocol import messages

NAME = messages.MODEL_NAME
pytestmark = pytest.mark.slow


def test_rows(server):
    body = {"instances": [to_base64(RED), to_base64(NO_IMAGE)]}
    status, reply = call_rest(server, "POST", ":predict", body)
    assert status == 200
    first, second = reply["predictions"]
    assert first["label"] == "red"
    assert first["class_id"] == 0
    assert first["decode_ok"] is True
    assert sum(first["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert second == {
        "label": "",
        "class_id": -1,
        "decode_ok": False,
        "probabilities": [0.0, 0.0, 0.0],
    }
    named = {"instances": [{"image_bytes": row} for row in body["instances"]]}
    assert call_rest(server, "POST", ":predict", named) == (status, reply)


def test_columns(server):
    body = {
        "signature_name": "serving_default",
        "inputs": [to_base64(GREEN), to_base64(BLUE)],
    }
    status, reply = call_rest(server, "POST", "/versions/7:predict", body)
    assert status == 200
    assert reply["outputs"]["label"] == ["green", "blue"]
    assert reply["outputs"]["class_id"] == [1, 2]
    named = {"inputs": {"image_bytes": body["inputs"]}}
    assert call_rest(server, "POST", ":predict", named) == (status, reply)
    assert call_rest(server, "POST", ":predict", {"inputs": []}) == (
        200,
        {"outputs": {key: [] for key in reply["outputs"]}},
    )


def test_strings(server):
    rows = ["caf\u00e9", {"b64": "AP8="}, ""]
    body = {"signature_name": "echo", "instances": rows}
    status, reply = call_rest(server, "POST", ":predict", body)
    assert status == 200
    texts = [row["text"] for row in reply["predictions"]]
    assert texts == ["caf\u00e9", "\0\ufffd", ""]


def test_pixels_as_numbers(server):
    blue = [[[0, 0, 255]] * 2] * 3
    body = {"signature_name": "predict_pixels", "instances": [blue]}
    status, reply = call_rest(server, "POST", ":predict", body)
    assert (status, reply["predictions"][0]["label"]) == (200, "blue")


def test_classify_over_rest(server):
    body = {
        "signature_name": "classify",
        "examples": [{"image/encoded": to_base64(GREEN)}],
    }
    status, reply = call_rest(server, "POST", ":classify", body)
    (ranked,) = reply["results"]
    assert (status, ranked[0][0], len(ranked)) == (200, "green", 3)
    assert ranked[0][1] > ranked[1][1] >= ranked[2][1] > 0
    body = {**body, "examples": [{}], "context": {"image/encoded": [to_base64(BLUE)]}}
    status, reply = call_rest(server, "POST", ":classify", body)
    assert (status, reply["results"][0][0][0]) == (200, "blue")


def test_status_and_metadata_over_rest(server):
    available = {
        "version": "7",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in ("", "/versions/7", "/labels/not-looked-at"):
        assert call_rest(server, "GET", path) == (
            200,
            {"model_version_status": [available]},
        )
    status, reply = call_rest(server, "GET", "/metadata")
    assert status == 200
    assert reply["model_spec"] == {"name": NAME, "signature_name": "", "version": "7"}
    signature = reply["metadata"]["signature_def"]["signature_def"]["features"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signature["outputs"]["embedding"]["tensor_shape"]["dim"] == [
        {"size": "-1", "name": ""},
        {"size": "3", "name": ""},
    ]


# verb, path, body, status, a part of the message
REST_ERRORS = {
    "model": ("POST", "/v1/models/other:predict", {"instances": [1]}, 404, "other"),
    "version": ("POST", "/versions/8:predict", {"instances": [1]}, 404, "8"),
    "label": ("POST", "/labels/stable:predict", {"instances": [1]}, 400, "stable"),
    "huge version": ("POST", f"/versions/{2**64}:predict", {}, 400, str(2**64)),
    "signature": (
        *("POST", ":predict", {"signature_name": "nope", "instances": [1]}),
        *(400, "nope"),
    ),
    "signature no name": ("POST", ":predict", {"signature_name": 1}, 400, "one of"),
    "empty body": ("POST", ":predict", b"", 400, "JSON parse error"),
    "no JSON": ("POST", ":predict", b"instances = [1]", 400, "JSON parse error"),
    "no UTF-8": ("POST", ":predict", b'{"instances": ["\xff"]}', 400, "JSON parse"),
    "no object": ("POST", ":predict", b"[1]", 400, "[1]"),
    "deep": ("POST", ":predict", b'{"inputs":' + b"[" * 100_000, 400, "JSON parse"),
    "deep objects": (
        *("POST", ":predict", b'{"inputs":' + b"[" * 700 + b'"x"' + b"]" * 700 + b"}"),
        *(400, ""),
    ),
    "deep lists": (
        *("POST", ":predict", b'{"inputs":' + b"[" * 200 + b'"x"' + b"]" * 200 + b"}"),
        *(400, ""),
    ),
    "no rows": ("POST", ":predict", {"instances": []}, 400, "instances"),
    "no list": ("POST", ":predict", {"instances": 1}, 400, "instances"),
    "both": ("POST", ":predict", {"instances": [1], "inputs": [1]}, 400, "one of"),
    "neither": ("POST", ":predict", {}, 400, "one of"),
    "no base64": ("POST", ":predict", {"instances": [{"b64": "?"}]}, 400, "base64"),
    "wrong key": (
        *("POST", ":predict", {"instances": [{"bytes": {"b64": ""}}]}),
        *(400, "image_bytes"),
    ),
    "named and plain rows": (
        *(
            "POST",
            ":predict",
            {"instances": [{"image_bytes": to_base64(RED)}, to_base64(RED)]},
        ),
        *(400, "name"),
    ),
    "missing column": ("POST", ":predict", {"inputs": {"x": [""]}}, 400, "image_bytes"),
    "number for string": ("POST", ":predict", {"instances": [1]}, 400, "string"),
    "lone surrogate": ("POST", ":predict", b'{"inputs": ["\\ud800"]}', 400, ""),
    "ragged": (
        *("POST", ":predict", {"inputs": [[""], ["", ""]]}),
        *(400, "equal lists"),
    ),
    "rank": ("POST", ":predict", {"inputs": [[""]]}, 400, "image_bytes"),
    "pixel out of range": (
        "POST",
        ":predict",
        {"signature_name": "predict_pixels", "instances": [[[[0, 0, 256]]]]},
        *(400, "256"),
    ),
    "pixel with a fraction": (
        "POST",
        ":predict",
        {"signature_name": "predict_pixels", "instances": [[[[0, 0, 1.5]]]]},
        *(400, "1.5"),
    ),
    "bad image, strict": (
        "POST",
        ":predict",
        {"signature_name": "predict_strict", "instances": [to_base64(NO_IMAGE)]},
        *(400, "pixels"),
    ),
    "classify by predict": (
        *("POST", ":classify", {"examples": [{"x": 1}]}),
        *(400, "serving/classify"),
    ),
    "no examples": ("POST", ":classify", {"signature_name": "classify"}, 400, "None"),
    "empty examples": ("POST", ":classify", {"examples": []}, 400, "empty"),
    "example no object": ("POST", ":classify", {"examples": [1]}, 400, "object"),
    "feature of two kinds": (
        *("POST", ":classify", {"examples": [{"x": [1, "y"]}]}),
        *(400, "Expected a string"),
    ),
    "feature of whole numbers and others": (
        *("POST", ":classify", {"examples": [{"x": [1, 1.5]}]}),
        *(400, "Expected a string"),
    ),
    "feature of lists": (
        *("POST", ":classify", {"examples": [{"x": [["a"], ["b"]]}]}),
        *(400, "one list"),
    ),
    "feature above float32": (
        *("POST", ":classify", {"examples": [{"x": [1e39]}]}),
        *(400, "1e+39"),
    ),
    "case of the method": ("POST", ":PREDICT", {"instances": [1]}, 400, "Malformed"),
    "model and body": ("POST", "/v1/models/other:predict", {}, 404, "other"),
    "query": ("POST", ":predict?x=1", {"instances": [to_base64(RED)]}, 400, "?x=1"),
    "regress": ("POST", ":regress", {"examples": [{"x": 1}]}, 400, "Malformed"),
    "verb": ("GET", ":predict", None, 400, "GET"),
    "other verb": ("PUT", ":predict", {}, 400, "PUT"),
    "post to status": ("POST", "", {}, 400, "POST"),
    "route": ("POST", ":describe", {}, 400, ":describe"),
    "no model": ("GET", "/v1/models", None, 400, "Malformed"),
    "status of a version": ("GET", "/versions/8", None, 404, "8"),
    "status of a model": ("GET", "/v1/models/other", None, 404, "other"),
    "metadata of a model": ("GET", "/v1/models/other/metadata", None, 404, "other"),
    "path": ("GET", "/other", None, 404, "/other"),
}


@pytest.mark.parametrize("case", REST_ERRORS)
def test_codes_over_rest(server, case):
    verb, path, body, code, words = REST_ERRORS[case]
    status, reply = call_rest(server, verb, path, body)
    assert status == code
    assert list(reply) == ["error"]
    assert words in reply["error"]


def test_paths_ignore_case_and_names_may_be_escaped(server):
    escaped = f"/V1/Models/%70{NAME[1:]}:predict"
    status, reply = call_rest(server, "POST", escaped, {"instances": [to_base64(RED)]})
    assert (status, reply["predictions"][0]["label"]) == (200, "red")


def test_a_path_may_hold_the_host_as_proxies_send_it(server):
    connection = http.client.HTTPConnection(server.rest, timeout=30)
    connection.request("GET", f"http://{server.rest}/v1/models/{NAME}")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_column_that_the_signature_does_not_name_is_left_out(server):
    inputs = {"image_bytes": [to_base64(RED)], "more": [1]}
    status, reply = call_rest(server, "POST", ":predict", {"inputs": inputs})
    assert (status, reply["outputs"]["label"]) == (200, ["red"])
