import base64
import json
import socket

import grpc
import pytest
from fakes.stub_servers import GOOD_REST_REPLY, GrpcStub, rest_stub

from export.protocol.status import Code, StatusError
from export.remote import transports


@pytest.fixture
def unused_address():
    with socket.create_server(("localhost", 0)) as probe:
        port = probe.getsockname()[1]
    return f"localhost:{port}"


def _predict_by_grpc(address, images, seconds=10.0):
    options = transports.CHANNEL_OPTIONS
    with grpc.insecure_channel(address, options=options) as channel:
        return transports.predict_by_grpc(channel, images, seconds)


def test_grpc_returns_the_values_of_rest():
    with GrpcStub() as server:
        outputs = _predict_by_grpc(server.address, [b"one", b"two"])
    assert server.batches == [[b"one", b"two"]]
    assert outputs == {
        "probabilities": [[0.2, 0.2], [0.2, 0.2]],  # not 0.20000000298
        "class_id": [0, 0],
        "label": ["x", "x"],
        "decode_ok": [True, True],
    }


def test_an_error_of_grpc_keeps_its_code():
    def fail(call, images):
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    with GrpcStub(fail) as server, pytest.raises(StatusError) as raised:
        _predict_by_grpc(server.address, [b""])
    assert raised.value.code == Code.RESOURCE_EXHAUSTED
    assert raised.value.message == "error of the stub"


def test_rest_sends_base64_and_returns_the_outputs():
    with rest_stub([(200, GOOD_REST_REPLY)]) as (address, requests):
        outputs = transports.predict_by_rest(address, [b"\xff\0"], 10)
    assert outputs == json.loads(GOOD_REST_REPLY)["outputs"]
    ((path, body),) = requests
    assert path == "/v1/models/photographs:predict"
    assert json.loads(body) == {
        "inputs": [{"b64": base64.b64encode(b"\xff\0").decode()}]
    }


def test_rest_has_an_address_for_status_and_for_metadata():
    with rest_stub([(200, b'{"a": 1}'), (200, b'{"b": 2}')]) as (address, requests):
        assert transports.get_status_by_rest(address, 10) == {"a": 1}
        assert transports.get_metadata_by_rest(address, 10) == {"b": 2}
    assert requests == [
        ("/v1/models/photographs", b""),
        ("/v1/models/photographs/metadata", b""),
    ]


@pytest.mark.parametrize(
    ("http_status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (404, Code.NOT_FOUND),
        (413, Code.RESOURCE_EXHAUSTED),
        (418, Code.INTERNAL),
        (429, Code.RESOURCE_EXHAUSTED),
        (500, Code.INTERNAL),
        (501, Code.UNIMPLEMENTED),
        (503, Code.UNAVAILABLE),
        (504, Code.DEADLINE_EXCEEDED),
    ],
)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "text"}', "text"),
        (b"<html>", "status {} and no JSON object: b'<html>'"),
        (b"\xff", r"status {} and no JSON object: b'\xff'"),
    ],
)
def test_an_http_status_becomes_a_code(http_status, code, body, message):
    with (
        rest_stub([(http_status, body)]) as (address, _),
        pytest.raises(StatusError) as raised,
    ):
        transports.predict_by_rest(address, [b""], 10)
    assert raised.value.code == code
    assert raised.value.message == message.format(http_status)


@pytest.mark.parametrize("reply", [b"<html>", b"[]", b"null", b"1"])
def test_a_rest_reply_that_is_no_object_is_an_error(reply):
    with (
        rest_stub([(200, reply)]) as (address, _),
        pytest.raises(StatusError, match="no JSON object"),
    ):
        transports.predict_by_rest(address, [b""], 10)


@pytest.mark.parametrize("reply", [b'{"outputs": [[0.5]]}', b'{"predictions": []}'])
def test_a_rest_reply_without_named_outputs_has_none(reply):
    with rest_stub([(200, reply)]) as (address, _):
        assert transports.predict_by_rest(address, [b""], 10) == {}


def test_no_server_is_unavailable(unused_address):
    for predict in (_predict_by_grpc, transports.predict_by_rest):
        with pytest.raises(StatusError) as raised:
            predict(unused_address, [b""], 10)
        assert raised.value.code == Code.UNAVAILABLE


def test_the_port_of_the_other_protocol_is_unavailable_in_printable_words():
    with GrpcStub() as server, pytest.raises(StatusError) as raised:
        transports.predict_by_rest(server.address, [b""], 10)
    assert raised.value.code == Code.UNAVAILABLE
    assert raised.value.message.isprintable()


def test_a_slow_server_exceeds_the_deadline():
    with (
        rest_stub([(200, GOOD_REST_REPLY)], delay_seconds=0.5) as (address, _),
        pytest.raises(StatusError) as raised,
    ):
        transports.predict_by_rest(address, [b""], 0.1)
    assert raised.value.code == Code.DEADLINE_EXCEEDED
