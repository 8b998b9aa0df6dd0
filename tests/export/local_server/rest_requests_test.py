import gzip
import http.client

import pytest
from fakes.image_files import png_header
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


# Bodies that rest_cases.yaml cannot hold.
BAD_BODIES = {
    "no UTF-8": b'{"instances": ["\xff"]}',
    "UTF-16": '{"instances": [""]}'.encode("utf-16"),
    "endless lists": b'{"inputs":' + b"[" * 100_000,
    "700 lists": b'{"inputs":' + b"[" * 700 + b'"x"' + b"]" * 700 + b"}",
    "200 lists": b'{"inputs":' + b"[" * 200 + b'"x"' + b"]" * 200 + b"}",
    "a number of 5000 digits": b'{"inputs": [' + b"9" * 5000 + b"]}",
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_body_is_an_invalid_argument(server, case):
    status, reply = call_rest(server, "POST", ":predict", BAD_BODIES[case])
    assert (status, list(reply)) == (400, ["error"])
    assert len(reply["error"]) < 1000


def test_images_of_too_many_pixels_together_are_refused_by_their_headers(server):
    image = to_base64(png_header(9_000, 10_000))
    for body in ({"inputs": [image] * 32}, {"instances": [image] * 32}):
        status, reply = call_rest(server, "POST", ":predict", body)
        assert (status, "2880000000 pixels" in reply["error"]) == (400, True)
    example = {"image/encoded": image}
    body = {"signature_name": "classify", "examples": [example] * 9}
    status, reply = call_rest(server, "POST", ":classify", body)
    assert (status, "810000000 pixels" in reply["error"]) == (400, True)


def test_a_gzip_that_grows_beyond_the_limit_is_refused(server):
    body = gzip.compress(b" " * (101 << 20), 1)
    connection = http.client.HTTPConnection(server.rest, timeout=60)
    headers = {"Content-Encoding": "gzip"}
    connection.request("POST", f"/v1/models/{NAME}:predict", body, headers)
    response = connection.getresponse()
    assert (response.status, b"104857600 bytes" in response.read()) == (400, True)
    connection.close()
