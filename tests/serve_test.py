import base64
import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import fakes
import grpc
import numpy as np
import psutil
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from export.c_api.session import Session
from export.local_server.rest_json import array_to_json, json_to_array
from export.protocol import messages, tensors

NAME = messages.MODEL_NAME
RED, GREEN, BLUE = (fakes.colour_jpeg(colour) for colour in fakes.COLOURS)
NO_IMAGE = b"no image"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[pathlib.Path]:
    """Two SavedModels that differ in their labels: "red" and "red-2"."""
    base = tmp_path_factory.mktemp("models")
    return [
        fakes.write_servable(base / "first"),
        fakes.write_servable(base / "second", suffix="-2"),
    ]


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    export_dir = tmp_path_factory.mktemp("export")
    fakes.publish(models[0], export_dir, 7)
    with fakes.Server(export_dir) as running:
        yield running


@pytest.fixture
def export_dir(models, tmp_path) -> pathlib.Path:
    fakes.publish(models[0], tmp_path, 1)
    return tmp_path


@contextlib.contextmanager
def _channel(server):
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    with grpc.insecure_channel(server.grpc, options) as channel:
        yield channel


def _call(server, method: str, request, timeout: float = 30):
    """What a client with the generated stubs sees; an RpcError if that is an error."""
    stubs = messages.prediction_service_pb2_grpc.PredictionServiceStub
    if method in ("GetModelStatus", "HandleReloadConfigRequest"):
        stubs = messages.model_service_pb2_grpc.ModelServiceStub
    with _channel(server) as channel:
        return getattr(stubs(channel), method)(request, timeout=timeout)


def _spec(text: str = "") -> messages.model_pb2.ModelSpec:
    return text_format.Parse(
        text,
        messages.model_pb2.ModelSpec(name="" if text.startswith("name:") else NAME),
    )


def _predict_request(
    images=(RED,), spec: str = "", key: str = "image_bytes", output_filter=()
):
    request = messages.predict_pb2.PredictRequest(
        model_spec=_spec(spec), output_filter=output_filter
    )
    array = images
    if not isinstance(images, np.ndarray):
        array = np.array(list(images), object)
    request.inputs[key].CopyFrom(tensors.to_proto(array))
    return request


def _classify_request(images=(RED,), spec: str = "signature_name: 'classify'"):
    request = messages.classification_pb2.ClassificationRequest(model_spec=_spec(spec))
    for image in images:
        example = request.input.example_list.examples.add()
        feature = example.features.feature["image/encoded"]
        feature.bytes_list.value.append(image)
    return request


def _labels(response) -> list[str]:
    return [label.decode() for label in response.outputs["label"].string_val]


def _http(server, verb: str, path: str, body=None) -> tuple[int, dict]:
    """Status and JSON; path goes behind the model's."""
    prefix = "" if path.startswith("http") else f"http://{server.rest}"
    if not path.startswith(("/v1", "/V1", "/other", "http")):
        prefix += f"/v1/models/{NAME}"
    data = (
        body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    )
    request = urllib.request.Request(prefix + path, data, method=verb)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            text, status = response.read(), response.status
    except urllib.error.HTTPError as error:
        with error:
            text, status = error.read(), error.code
    return status, json.loads(text)


def _b64(image: bytes) -> dict:
    return {"b64": base64.b64encode(image).decode()}


# gRPC


def test_a_foreign_client_finds_every_value_in_its_field(server):
    response = _call(server, "Predict", _predict_request([GREEN, NO_IMAGE, BLUE]))
    assert response.model_spec == _spec(
        "version { value: 7 } signature_name: 'serving_default'"
    )
    outputs = response.outputs
    assert sorted(outputs) == ["class_id", "decode_ok", "label", "probabilities"]
    assert list(outputs["label"].string_val) == [b"green", b"", b"blue"]
    assert list(outputs["class_id"].int64_val) == [1, -1, 2]
    assert list(outputs["decode_ok"].bool_val) == [True, False, True]
    assert [dim.size for dim in outputs["probabilities"].tensor_shape.dim] == [3, 3]
    probabilities = np.reshape(outputs["probabilities"].float_val, [3, 3])
    np.testing.assert_allclose(probabilities.sum(axis=1), [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("key", ["version { value: 7 }", "signature_name: ''"])
def test_a_version_and_the_default_signature_may_be_spelt_out(server, key):
    response = _call(server, "Predict", _predict_request(spec=key))
    assert response.model_spec.signature_name == "serving_default"
    assert _labels(response) == ["red"]


def test_an_output_filter_chooses_outputs(server):
    request = _predict_request(output_filter=["label", "class_id"])
    assert sorted(_call(server, "Predict", request).outputs) == ["class_id", "label"]


@pytest.mark.parametrize("signature", ["serving_default", "predict_strict", "features"])
def test_an_empty_batch_is_answered(server, signature):
    request = _predict_request([], spec=f"signature_name: '{signature}'")
    outputs = _call(server, "Predict", request).outputs
    assert {key: tensors.to_array(each).shape[0] for key, each in outputs.items()} == (
        dict.fromkeys(outputs, 0)
    )


def test_pixels_as_tensor_content(server):
    pixels = np.zeros([2, 3, 4, 3], np.uint8)
    pixels[0, ..., 2] = pixels[1, ..., 0] = 255
    request = _predict_request(pixels, "signature_name: 'predict_pixels'", "image")
    assert request.inputs["image"].tensor_content
    assert _labels(_call(server, "Predict", request)) == ["blue", "red"]


def test_classify_ranks_the_classes(server):
    response = _call(server, "Classify", _classify_request([GREEN, BLUE]))
    assert response.model_spec == _spec(
        "version { value: 7 } signature_name: 'classify'"
    )
    ranked = [
        [each.label for each in one.classes] for one in response.result.classifications
    ]
    assert [labels[0] for labels in ranked] == ["green", "blue"]
    assert [len(labels) for labels in ranked] == [3, 3]
    scores = [each.score for each in response.result.classifications[0].classes]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-6)


def test_classify_merges_the_context_into_each_example(server):
    request = _classify_request([])
    context = request.input.example_list_with_context
    context.context.features.feature["image/encoded"].bytes_list.value.append(GREEN)
    context.examples.add()
    context.examples.add().features.feature["image/encoded"].bytes_list.value.append(
        BLUE
    )
    response = _call(server, "Classify", request)
    labels = [one.classes[0].label for one in response.result.classifications]
    assert labels == ["green", "blue"]


def test_metadata_holds_the_signatures(server):
    request = messages.get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=_spec(), metadata_field=["signature_def"]
    )
    response = _call(server, "GetModelMetadata", request)
    assert response.model_spec == _spec("version { value: 7 }")
    found = messages.get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    signature = found.signature_def["classify"]
    assert signature.method_name == "tensorflow/serving/classify"
    assert sorted(signature.outputs) == ["classes", "scores"]


def _regression():
    module = messages.prediction_service_pb2_grpc
    requests = module.tensorflow__serving_dot_apis_dot_regression__pb2
    return requests.RegressionRequest(model_spec=_spec())


def _broken_tensor(**fields):
    request = _predict_request()
    request.inputs["image_bytes"].Clear()
    tensor = messages.tensor_pb2.TensorProto(**fields)
    tensor.tensor_shape.dim.add().size = 2
    request.inputs["image_bytes"].CopyFrom(tensor)
    return request


def _two_inputs():
    request = _predict_request()
    request.inputs["more"].CopyFrom(request.inputs["image_bytes"])
    return request


def _metadata(spec: str = "", fields=("signature_def",)):
    return messages.get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=_spec(spec), metadata_field=fields
    )


def _status(spec: str = ""):
    return messages.get_model_status_pb2.GetModelStatusRequest(model_spec=_spec(spec))


def _reload():
    module = messages.model_service_pb2_grpc
    requests = module.tensorflow__serving_dot_apis_dot_model__management__pb2
    return requests.ReloadConfigRequest()


_TYPES = messages.types_pb2

# method, request, code, a part of the message
GRPC_ERRORS = {
    "no spec": (
        *("Predict", messages.predict_pb2.PredictRequest()),
        *("INVALID_ARGUMENT", "Missing ModelSpec"),
    ),
    "no name": (
        *("Predict", messages.predict_pb2.PredictRequest(model_spec={})),
        *("INVALID_ARGUMENT", "name"),
    ),
    "model": (
        *("Predict", _predict_request(spec="name: 'other'")),
        *("NOT_FOUND", "other, the newest"),
    ),
    "version": (
        *("Predict", _predict_request(spec="version { value: 8 }")),
        *("NOT_FOUND", f"{NAME}, 8"),
    ),
    "label": (
        *("Predict", _predict_request(spec="version_label: 'stable'")),
        *("INVALID_ARGUMENT", "label: stable"),
    ),
    "signature": (
        *("Predict", _predict_request(spec="signature_name: 'nope'")),
        *("FAILED_PRECONDITION", '"nope"'),
    ),
    "key": (
        *("Predict", _predict_request(key="bytes")),
        *("INVALID_ARGUMENT", "image_bytes"),
    ),
    "one key more": ("Predict", _two_inputs(), "INVALID_ARGUMENT", "more"),
    "no inputs": (
        *("Predict", messages.predict_pb2.PredictRequest(model_spec=_spec())),
        *("INVALID_ARGUMENT", "image_bytes"),
    ),
    "dtype": (
        *("Predict", _predict_request(np.zeros([1], np.float32))),
        *("INVALID_ARGUMENT", "to be string but float"),
    ),
    "rank": (
        *("Predict", _predict_request(np.array([[b"x"]], object))),
        *("INVALID_ARGUMENT", "[1, 1]"),
    ),
    "channels": (
        "Predict",
        _predict_request(
            np.zeros([1, 2, 2, 4], np.uint8),
            "signature_name: 'predict_pixels'",
            "image",
        ),
        *("INVALID_ARGUMENT", "image"),
    ),
    "tensor of half the bytes": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_FLOAT, tensor_content=b"1234")),
        *("INVALID_ARGUMENT", "8 bytes"),
    ),
    "tensor out of range": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_UINT8, int_val=[1, 300])),
        *("INVALID_ARGUMENT", "300"),
    ),
    "tensor of a type that is none": (
        *("Predict", _broken_tensor(dtype=99)),
        *("INVALID_ARGUMENT", "99"),
    ),
    "strings as content": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_STRING, tensor_content=b"\1a")),
        *("INVALID_ARGUMENT", "string_val"),
    ),
    "tensor of resources": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_RESOURCE)),
        *("INVALID_ARGUMENT", "resource"),
    ),
    "output": (
        *("Predict", _predict_request(output_filter=["nope"])),
        *("INVALID_ARGUMENT", "nope"),
    ),
    "output twice": (
        *("Predict", _predict_request(output_filter=["label", "label"])),
        *("INVALID_ARGUMENT", "label, label"),
    ),
    "bad image, strict": (
        *("Predict", _predict_request([NO_IMAGE], "signature_name: 'predict_strict'")),
        *("INVALID_ARGUMENT", "pixels"),
    ),
    "classify without spec": (
        *("Classify", messages.classification_pb2.ClassificationRequest()),
        *("INVALID_ARGUMENT", "Missing ModelSpec"),
    ),
    "classify by predict": (
        *("Classify", _classify_request(spec="")),
        *("INVALID_ARGUMENT", "tensorflow/serving/classify"),
    ),
    "classify by nothing": (
        *("Classify", _classify_request(spec="signature_name: 'nope'")),
        *("INVALID_ARGUMENT", "nope"),
    ),
    "classify nothing": (
        *("Classify", _classify_request([])),
        *("INVALID_ARGUMENT", "empty"),
    ),
    "regress": ("Regress", _regression(), "UNIMPLEMENTED", "not implemented"),
    "metadata of nothing": (
        *("GetModelMetadata", _metadata(fields=())),
        *("INVALID_ARGUMENT", "metadata_field"),
    ),
    "metadata unknown": (
        *("GetModelMetadata", _metadata(fields=("weights",))),
        *("INVALID_ARGUMENT", "weights"),
    ),
    "metadata of a model": (
        *("GetModelMetadata", _metadata("name: 'other'")),
        *("NOT_FOUND", "other, the newest"),
    ),
    "status without spec": (
        "GetModelStatus",
        messages.get_model_status_pb2.GetModelStatusRequest(),
        *("INVALID_ARGUMENT", "Missing ModelSpec"),
    ),
    "status of a model": (
        *("GetModelStatus", _status("name: 'other'")),
        *("NOT_FOUND", "of model other"),
    ),
    "status of a version": (
        *("GetModelStatus", _status("version { value: 8 }")),
        *("NOT_FOUND", "version 8"),
    ),
    "reload": (
        "HandleReloadConfigRequest",
        _reload(),
        *("UNIMPLEMENTED", "not implemented"),
    ),
}


@pytest.mark.parametrize("case", GRPC_ERRORS)
def test_codes_over_grpc(server, case):
    method, request, code, words = GRPC_ERRORS[case]
    with pytest.raises(grpc.RpcError) as caught:
        _call(server, method, request)
    assert caught.value.code().name == code
    assert words in caught.value.details()


# REST


def test_rows(server):
    body = {"instances": [_b64(RED), _b64(NO_IMAGE)]}
    status, reply = _http(server, "POST", ":predict", body)
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
    assert _http(server, "POST", ":predict", named) == (status, reply)


def test_columns(server):
    body = {"signature_name": "serving_default", "inputs": [_b64(GREEN), _b64(BLUE)]}
    status, reply = _http(server, "POST", "/versions/7:predict", body)
    assert status == 200
    assert reply["outputs"]["label"] == ["green", "blue"]
    assert reply["outputs"]["class_id"] == [1, 2]
    named = {"inputs": {"image_bytes": body["inputs"]}}
    assert _http(server, "POST", ":predict", named) == (status, reply)
    assert _http(server, "POST", ":predict", {"inputs": []}) == (
        200,
        {"outputs": {key: [] for key in reply["outputs"]}},
    )


def test_strings(server):
    rows = ["caf\u00e9", {"b64": "AP8="}, ""]
    body = {"signature_name": "echo", "instances": rows}
    status, reply = _http(server, "POST", ":predict", body)
    assert status == 200
    texts = [row["text"] for row in reply["predictions"]]
    assert texts == ["caf\u00e9", "\0\ufffd", ""]


def test_pixels_as_numbers(server):
    blue = [[[0, 0, 255]] * 2] * 3
    body = {"signature_name": "predict_pixels", "instances": [blue]}
    status, reply = _http(server, "POST", ":predict", body)
    assert (status, reply["predictions"][0]["label"]) == (200, "blue")


def test_classify_over_rest(server):
    body = {"signature_name": "classify", "examples": [{"image/encoded": _b64(GREEN)}]}
    status, reply = _http(server, "POST", ":classify", body)
    (ranked,) = reply["results"]
    assert (status, ranked[0][0], len(ranked)) == (200, "green", 3)
    assert ranked[0][1] > ranked[1][1] >= ranked[2][1] > 0
    body = {**body, "examples": [{}], "context": {"image/encoded": [_b64(BLUE)]}}
    status, reply = _http(server, "POST", ":classify", body)
    assert (status, reply["results"][0][0][0]) == (200, "blue")


def test_status_and_metadata_over_rest(server):
    available = {
        "version": "7",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in ("", "/versions/7", "/labels/not-looked-at"):
        assert _http(server, "GET", path) == (
            200,
            {"model_version_status": [available]},
        )
    status, reply = _http(server, "GET", "/metadata")
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
        *("POST", ":predict", {"instances": [{"image_bytes": _b64(RED)}, _b64(RED)]}),
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
        {"signature_name": "predict_strict", "instances": [_b64(NO_IMAGE)]},
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
    "query": ("POST", ":predict?x=1", {"instances": [_b64(RED)]}, 400, "?x=1"),
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
    status, reply = _http(server, verb, path, body)
    assert status == code
    assert list(reply) == ["error"]
    assert words in reply["error"]


def test_paths_ignore_case_and_names_may_be_escaped(server):
    escaped = f"/V1/Models/%70{NAME[1:]}:predict"
    status, reply = _http(server, "POST", escaped, {"instances": [_b64(RED)]})
    assert (status, reply["predictions"][0]["label"]) == (200, "red")


def test_a_path_may_hold_the_host_as_proxies_send_it(server):
    connection = http.client.HTTPConnection(server.rest, timeout=30)
    connection.request("GET", f"http://{server.rest}/v1/models/{NAME}")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_column_that_the_signature_does_not_name_is_left_out(server):
    inputs = {"image_bytes": [_b64(RED)], "more": [1]}
    status, reply = _http(server, "POST", ":predict", {"inputs": inputs})
    assert (status, reply["outputs"]["label"]) == (200, ["red"])


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(server, tmp_path):
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"instances": [_b64(BLUE)]}))
    url = f"http://{server.rest}/v1/models/{NAME}:predict"
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "-d", f"@{body}", url],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert json.loads(done.stdout)["predictions"][0]["label"] == "blue"


def test_nothing_of_pythons_tensorflow_is_loaded(server):
    maps = pathlib.Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    lines = maps.read_text().splitlines()
    libraries = {pathlib.Path(line.split()[-1]).name for line in lines if "/" in line}
    assert any("libtensorflow_cc" in name for name in libraries)
    assert not any("pywrap" in name for name in libraries)


def test_every_address_is_one_of_loopback(server):
    def addresses():
        for connection in psutil.Process(server.process.pid).net_connections("inet"):
            yield connection.laddr.ip
            if connection.raddr:
                yield connection.raddr.ip

    with _channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(_predict_request())
        found = set(addresses())
    assert found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert found


def _is_alive(server) -> bool:
    return _labels(_call(server, "Predict", _predict_request())) == ["red"]


def test_a_request_that_is_too_large_is_refused_and_the_next_one_is_answered(server):
    image = bytes(129 << 20)
    with pytest.raises(grpc.RpcError) as caught:
        _call(server, "Predict", _predict_request([image]))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    status, reply = _http(server, "POST", ":predict", image)
    assert (status, "bytes" in reply["error"]) == (413, True)
    assert _is_alive(server)


def test_clients_that_hang_up_leave_no_trace(server):
    before = list(server.lines)
    host, port = server.rest.split(":")
    head = (
        f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
    )
    for part in ("POST /v1", head, f"{head}\r\n{{", "\x16\x03\x01 no HTTP\r\n\r\n"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(part.encode())
    gzip = f"{head}Content-Encoding: gzip\r\n\r\n".encode() + b"x" * 99
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(gzip)
        assert connection.recv(99).startswith(b"HTTP/1.1 400")
    host, port = server.grpc.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n no frame")
    with _channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        futures = [
            stub.Predict.future(_predict_request([RED] * 200)) for _ in range(20)
        ]
        for future in futures:
            future.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        _call(server, "Predict", _predict_request([RED] * 500), timeout=0.002)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert _is_alive(server)
    assert server.lines[len(before) :] == []


def test_eight_threads_each_get_their_own_answers(server):
    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with _channel(server) as channel:
            stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for _ in range(25):
                classes = rng.integers(0, 3, rng.integers(1, 9))
                images = [(RED, GREEN, BLUE)[each] for each in classes]
                response = stub.Predict(_predict_request(images), timeout=60)
                assert list(response.outputs["class_id"].int64_val) == classes.tolist()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


@pytest.mark.slow
def test_memory_does_not_grow_over_bad_requests(server):
    rng = np.random.default_rng(3)

    def bad_image() -> bytes:
        image = bytearray((RED, GREEN, BLUE)[rng.integers(3)])
        for place in rng.integers(0, len(image), rng.integers(1, 30)):
            image[place] = rng.integers(256)
        return bytes(image)[: rng.integers(len(image) + 1)]

    codes = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "INVALID_ARGUMENT")

    def send(stub, count: int) -> None:
        for index in range(count):
            request = _predict_request([bad_image(), rng.bytes(rng.integers(200)), RED])
            kind = index % 4
            if kind == 1:
                request.model_spec.signature_name = "predict_strict"
            elif kind == 2:
                request.model_spec.version.value = 99
            elif kind == 3:
                request.inputs["image_bytes"].tensor_shape.dim[0].size = 2
            call = stub.Predict.future(request, timeout=60)
            assert call.code().name == codes[kind]
            if kind == 0:
                assert _labels(call.result())[2] == "red"
            _http(server, "POST", ":predict", rng.bytes(50))

    process = psutil.Process(server.process.pid)
    with _channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        send(stub, 600)  # caches and pools fill
        before = process.memory_info().rss
        send(stub, 2000)
    grown = process.memory_info().rss - before
    # Headers that damage has made large leave holes in the heap; a leak of an image a
    # request would be more.
    assert grown < 128 << 20
    assert not [line for line in server.lines if "request failed" in line]


# Versions


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Load:
    """Clients that ask all the time; use it in a `with`.

    answers: (version, label) -> count; errors: what went wrong.
    """

    def __init__(self, server, *, threads: int = 3, version_label: str = ""):
        self._server = server
        self._spec = f"version_label: '{version_label}'" if version_label else ""
        self._path = f"/labels/{version_label}" if version_label else ""
        self._stop = threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._threads = threads
        self.answers: dict[tuple[int, str], int] = {}
        self.errors: list[str] = []

    def __enter__(self):
        for index in range(self._threads):
            self._pool.submit(self._ask_by_rest if index == 0 else self._ask_by_grpc)
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._pool.shutdown()

    def wait_for(self, *keys) -> None:
        """Until each of these answers has been given."""
        _until(lambda: set(keys) <= self.answers.keys())

    def _count(self, key) -> None:
        self.answers[key] = self.answers.get(key, 0) + 1

    def _ask_by_grpc(self) -> None:
        with _channel(self._server) as channel:
            stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._stop.is_set():
                try:
                    request = _predict_request([RED] * 4, self._spec)
                    response = stub.Predict(request, timeout=60)
                    key = response.model_spec.version.value, _labels(response)[3]
                    self._count(key)
                except grpc.RpcError as error:
                    self.errors.append(f"{error.code()} {error.details()}")

    def _ask_by_rest(self) -> None:
        body = {"instances": [_b64(RED)]}
        while not self._stop.is_set():
            status, reply = _http(self._server, "POST", f"{self._path}:predict", body)
            if status == 200:
                self._count(("REST", reply["predictions"][0]["label"]))
            else:
                self.errors.append(reply["error"])


def _states(server) -> dict[int, str]:
    found = _call(server, "GetModelStatus", _status()).model_version_status
    return {each.version: type(each).State.Name(each.state) for each in found}


def test_a_new_version_takes_over_and_no_request_is_lost(models, export_dir):
    with fakes.Server(export_dir) as server, Load(server) as load:
        load.wait_for((1, "red"), ("REST", "red"))
        fakes.publish(models[1], export_dir, 2)
        server.wait_for("version 1 unloaded")
        load.wait_for((2, "red-2"), ("REST", "red-2"))
    assert load.errors == []
    assert set(load.answers) == {
        *((1, "red"), (2, "red-2")),
        *(("REST", "red"), ("REST", "red-2")),
    }


def test_a_rollback_loses_no_request(models, export_dir):
    fakes.publish(models[1], export_dir, 2)
    with fakes.Server(export_dir) as server:
        assert _states(server) == {2: "AVAILABLE"}
        with Load(server) as load:
            load.wait_for((2, "red-2"))
            (export_dir / "2").rename(export_dir / "2.withdrawn")
            server.wait_for("version 2 unloaded")
            load.wait_for((1, "red"))
        assert _states(server) == {2: "END", 1: "AVAILABLE"}
    assert load.errors == []
    assert {key for key in load.answers if key[0] != "REST"} == {
        (2, "red-2"),
        (1, "red"),
    }


def test_versions_come_and_go_under_load_for_a_while(models, export_dir):
    with fakes.Server(export_dir) as server, Load(server, threads=4) as load:
        for number in range(2, 6):
            fakes.publish(models[number % 2], export_dir, number)
            server.wait_for(f"version {number - 1} unloaded")
    assert load.errors == []
    versions = {key[0] for key in load.answers}
    assert versions >= {2, 3, 4}


def test_a_version_that_cannot_be_warmed_up_is_not_served_until_it_changes(
    models, export_dir
):
    broken = export_dir.parent / f"{export_dir.name}-broken"
    shutil.copytree(models[1], broken)
    warmup = broken / messages.WARMUP_FILE
    good = warmup.read_bytes()
    warmup.write_bytes(good[:-5])
    with fakes.Server(export_dir) as server:
        fakes.publish(broken, export_dir, 2)
        line = server.wait_for("version 2 is not served")
        assert "within a record" in line
        time.sleep(2.5)  # it is not tried again and again
        assert len([each for each in server.lines if "version 2" in each]) == 1
        assert _labels(_call(server, "Predict", _predict_request())) == ["red"]
        assert _states(server) == {2: "END", 1: "AVAILABLE"}
        with pytest.raises(grpc.RpcError) as caught:
            _call(server, "Predict", _predict_request(spec="version { value: 2 }"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        (export_dir / "2" / messages.WARMUP_FILE).write_bytes(good)
        server.wait_for("version 2 loaded")
        server.wait_for("version 1 unloaded")
        assert _labels(_call(server, "Predict", _predict_request())) == ["red-2"]


@pytest.mark.parametrize(
    "missing", ["saved_model.pb", "variables/variables.data-00000-of-00001"]
)
def test_half_a_version_is_not_served(models, export_dir, missing):
    fakes.publish(models[1], export_dir, 2)
    (export_dir / "2" / missing).unlink()
    with fakes.Server(export_dir) as server:
        server.wait_for("version 2 is not served")
        # As in TensorFlow Serving, nobody asked for the older one.
        with pytest.raises(grpc.RpcError) as caught:
            _call(server, "Predict", _predict_request())
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        fakes.publish(models[0], export_dir, 3)
        server.wait_for("version 3 loaded")
        assert _is_alive(server)


def test_a_server_waits_for_its_first_version_and_does_without_the_last(
    models, tmp_path
):
    for name in (".tmp-9", "notes", "1.5", "-4", "0x5"):
        (tmp_path / name).mkdir()
    with fakes.Server(tmp_path) as server:
        assert "waiting" in server.wait_for("no version to serve")
        with pytest.raises(grpc.RpcError) as caught:
            _call(server, "GetModelStatus", _status())
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        fakes.publish(models[0], tmp_path, 3)
        server.wait_for("version 3 loaded")
        assert _is_alive(server)
        (tmp_path / "3").rename(tmp_path / "gone")
        server.wait_for("version 3 unloaded")
        server.wait_for("no version to serve", count=2)
        assert _states(server) == {3: "END"}
        (tmp_path / "gone").rename(tmp_path / "3")
        server.wait_for("version 3 loaded", count=2)
        assert _states(server) == {3: "AVAILABLE"}
    assert not [line for line in server.lines if "Traceback" in line]


def _config(policy: str, labels: str = "") -> str:
    return (
        f"model_config_list {{ config {{ name: '{NAME}' base_path: '/models/{NAME}' "
        f"model_platform: 'tensorflow' {labels} "
        f"model_version_policy {{ {policy} }} }} }}"
    )


def _label(name: str, number: int) -> str:
    return f"version_labels {{ key: '{name}' value: {number} }}"


def test_models_config_says_which_versions_are_served(models, export_dir):
    for number in (2, 3):
        fakes.publish(models[1], export_dir, number)
    config = export_dir / "models.config"
    config.write_text(_config("latest { num_versions: 2 }", _label("old", 2)))

    def by_label(name: str) -> int:
        request = _predict_request(spec=f"version_label: '{name}'")
        return _call(server, "Predict", request).model_spec.version.value

    with fakes.Server(export_dir) as server:
        assert _states(server) == {3: "AVAILABLE", 2: "AVAILABLE"}
        assert by_label("old") == 2
        # A label moves when the version it moves to is there.
        config.write_text(
            _config("specific { versions: 1 versions: 3 }", _label("old", 1))
        )
        server.wait_for("version 2 unloaded")
        assert _states(server) == {3: "AVAILABLE", 2: "END", 1: "AVAILABLE"}
        body = {"instances": [_b64(RED)]}
        status, reply = _http(server, "POST", "/labels/old:predict", body)
        assert (status, reply["predictions"][0]["label"]) == (200, "red")
        config.write_text("no config {")
        line = server.wait_for("all stays as it is")
        assert str(config) in line
        assert by_label("old") == 1
        config.write_text(_config("all {}"))
        server.wait_for("version 2 loaded", count=2)
        assert set(_states(server).values()) == {"AVAILABLE"}
        with pytest.raises(grpc.RpcError):
            by_label("old")
        config.unlink()
        server.wait_for("all stays as it is", count=2)
        assert set(_states(server).values()) == {"AVAILABLE"}


@pytest.mark.parametrize("empty_first", [False, True])
def test_a_label_moves_and_no_request_is_lost(models, export_dir, empty_first):
    config = export_dir / "models.config"
    config.write_text(_config("latest {}", _label("stable", 1)))
    with (
        fakes.Server(export_dir) as server,
        Load(server, version_label="stable") as load,
    ):
        if empty_first:  # as an editor may write it
            config.write_text("")
            server.wait_for("all stays as it is")
        load.wait_for((1, "red"))
        config.write_text(_config("latest {}", _label("stable", 2)))
        fakes.publish(models[1], export_dir, 2)
        server.wait_for("version 1 unloaded")
        load.wait_for((2, "red-2"))
    assert load.errors == []
    assert {key for key in load.answers if key[0] != "REST"} == {
        (1, "red"),
        (2, "red-2"),
    }


# The process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_running_is_finished_when_the_server_is_told_to_stop(
    export_dir, number
):
    with fakes.Server(export_dir) as server, _channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(_predict_request(), timeout=30)
        future = stub.Predict.future(_predict_request([RED] * 4000), timeout=60)
        time.sleep(0.1)
        server.process.send_signal(number)
        assert len(future.result().outputs["label"].string_val) == 4000
        assert server.process.wait(timeout=30) == 0
    assert server.lines[-1] == "version 1 unloaded"
    assert server.lines[0].startswith("export.serve is for development and tests")


def test_a_body_that_is_on_its_way_is_answered_when_the_server_is_told_to_stop(
    export_dir,
):
    body = json.dumps({"inputs": [_b64(RED)]}).encode()
    with fakes.Server(export_dir) as server:
        connection = http.client.HTTPConnection(server.rest, timeout=30)
        connection.putrequest("POST", f"/v1/models/{NAME}:predict")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:20])
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("stopping")
        connection.send(body[20:])
        response = connection.getresponse()
        assert response.status == 200
        assert json.load(response)["outputs"]["label"] == ["red"]
        connection.close()
        assert server.process.wait(timeout=30) == 0


def _refusal(*flags: str) -> str:
    done = fakes.run("-m", "export.serve", *flags, timeout_seconds=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


def test_a_port_in_use_is_said(export_dir):
    flag = f"--export_dir={export_dir}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = _refusal(flag, f"--port={port}", "--rest_port=0")
        assert f"127.0.0.1:{port}" in line
        assert "--port" in line
        line = _refusal(flag, "--port=0", f"--rest_port={port}")
        assert f"--rest_port={port}" in line


def test_what_cannot_be_served_is_said(export_dir, tmp_path):
    flags = ("--port=0", "--rest_port=0")
    missing = tmp_path / "missing"
    assert f"Received: {missing}" in _refusal(f"--export_dir={missing}", *flags)
    (export_dir / "models.config").write_text("model_config_list {}")
    line = _refusal(f"--export_dir={export_dir}", *flags)
    assert str(export_dir / "models.config") in line
    (export_dir / "models.config").unlink()
    line = _refusal(f"--export_dir={tmp_path}", "--host=no.such.host.invalid", *flags)
    assert "no.such.host.invalid" in line


# The JSON alone


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
    found = json_to_array([_b64(value) for value in values], np.dtype(object))
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


@settings(max_examples=300, deadline=None)
@given(_JSON, st.sampled_from(["float32", "uint8", "object"]))
def test_any_json_is_a_tensor_or_a_value_error(value, dtype):
    with contextlib.suppress(ValueError):
        assert json_to_array(value, np.dtype(dtype)).dtype == dtype


@pytest.mark.parametrize("value", [3.5e38, -1e300])
def test_a_number_above_float32_is_refused_and_infinity_is_not(value):
    with pytest.raises(ValueError, match=re.escape(str(value))):
        json_to_array([0.5, value], np.dtype("float32"))
    assert json_to_array([float("inf")], np.dtype("float32"))[0] == np.inf


@settings(max_examples=300, deadline=None)
@given(
    _JSON,
    st.sampled_from(["instances", "inputs", "examples", "signature_name"]),
    st.sampled_from(["serving_default", "predict_pixels", "classify", "echo"]),
    st.sampled_from(["predict", "classify"]),
)
def test_any_body_is_answered_or_refused(server, value, key, signature, action):
    body = {"signature_name": signature, "instances": [""], key: value}
    status, _ = _http(server, "POST", f":{action}", body)
    assert status in (200, 400)


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


# All of it


@pytest.mark.slow
def test_from_photographs_to_answers_and_on_to_the_next_version_and_back(tmp_path):
    photographs = fakes.write_folder(tmp_path / "photographs", per_class=25)
    run, export_dir = tmp_path / "run", tmp_path / "export"
    done = fakes.run(
        *("-m", "trainer.main", *fakes.TINY_MODEL_FLAGS, "--regimes=head"),
        *("--head_epochs=1", f"--source={photographs}", f"--model_dir={run}"),
        f"--export_dir={export_dir}",
        timeout_seconds=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (first,) = (int(each.name) for each in export_dir.iterdir() if each.name.isdigit())
    images = sorted(photographs.rglob("*.jpg"))
    direct = Session(str(export_dir / str(first)))
    expected = direct.run(
        "serving_default",
        {"image_bytes": np.array([image.read_bytes() for image in images], object)},
    )
    direct.close()
    with fakes.Server(export_dir) as server:
        for flags in (
            ("--protocol=grpc", f"--server={server.grpc}"),
            ("--protocol=rest", f"--server={server.rest}"),
        ):
            done = fakes.run("-m", "export.client", *flags, "--json", str(photographs))
            assert done.returncode == 0, done.stderr
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert [row["name"] for row in rows] == [*map(str, images)]
            assert [row["label"].encode() for row in rows] == expected["label"].tolist()
            np.testing.assert_allclose(
                [row["probabilities"] for row in rows],
                expected["probabilities"],
                atol=1e-5,
            )

        def labelled(label: str) -> int:
            request = _predict_request(spec=f"version_label: '{label}'")
            return _call(server, "Predict", request).model_spec.version.value

        assert labelled("stable") == first
        with Load(server) as load:
            flag = f"--export_dir={export_dir}"
            done = fakes.run("-m", "export.main", f"--model_dir={run}", flag)
            assert done.returncode == 0, done.stderr[-2000:]
            server.wait_for("loaded in", count=2)
            second = max(_states(server))
            _until(lambda: labelled("stable") == second)
            assert labelled("previous") == first
            done = fakes.run("-m", "export.main", "--rollback", flag)
            assert done.returncode == 0, done.stderr[-2000:]
            server.wait_for(f"version {second} unloaded")
            assert labelled("stable") == first
    assert load.errors == []
    assert {first, second} < {key[0] for key in load.answers}
