import concurrent.futures
import http.client
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import fakes
import grpc
import numpy as np
import psutil
import pytest
from fakes.server_requests import (
    BLUE,
    GREEN,
    RED,
    call_grpc,
    call_rest,
    is_alive,
    list_labels,
    make_predict_request,
    open_channel,
    to_base64,
)

from export.protocol import messages

NAME = messages.MODEL_NAME
pytestmark = pytest.mark.slow


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(server, tmp_path):
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"instances": [to_base64(BLUE)]}))
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

    with open_channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(make_predict_request())
        found = set(addresses())
    assert found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert found


def test_a_request_that_is_too_large_is_refused_and_the_next_one_is_answered(server):
    image = bytes(129 << 20)
    with pytest.raises(grpc.RpcError) as caught:
        call_grpc(server, "Predict", make_predict_request([image]))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    status, reply = call_rest(server, "POST", ":predict", image)
    assert (status, "bytes" in reply["error"]) == (413, True)
    assert is_alive(server)


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
    with open_channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        futures = [
            stub.Predict.future(make_predict_request([RED] * 200)) for _ in range(20)
        ]
        for future in futures:
            future.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        call_grpc(server, "Predict", make_predict_request([RED] * 500), timeout=0.002)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert is_alive(server)
    assert server.lines[len(before) :] == []


def test_eight_threads_each_get_their_own_answers(server):
    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with open_channel(server) as channel:
            stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for _ in range(25):
                classes = rng.integers(0, 3, rng.integers(1, 9))
                images = [(RED, GREEN, BLUE)[each] for each in classes]
                response = stub.Predict(make_predict_request(images), timeout=60)
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
            request = make_predict_request(
                [bad_image(), rng.bytes(rng.integers(200)), RED]
            )
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
                assert list_labels(call.result())[2] == "red"
            call_rest(server, "POST", ":predict", rng.bytes(50))

    process = psutil.Process(server.process.pid)
    with open_channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        send(stub, 600)  # caches and pools fill
        before = process.memory_info().rss
        send(stub, 2000)
    grown = process.memory_info().rss - before
    # Headers that damage has made large leave holes in the heap; a leak of an image a
    # request would be more.
    assert grown < 128 << 20
    assert not [line for line in server.lines if "request failed" in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_running_is_finished_when_the_server_is_told_to_stop(
    export_dir, number
):
    with fakes.Server(export_dir) as server, open_channel(server) as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(make_predict_request(), timeout=30)
        future = stub.Predict.future(make_predict_request([RED] * 4000), timeout=60)
        time.sleep(0.1)
        server.process.send_signal(number)
        assert len(future.result().outputs["label"].string_val) == 4000
        assert server.process.wait(timeout=30) == 0
    assert server.lines[-1] == "version 1 unloaded"
    assert server.lines[0].startswith("export.serve is for development and tests")


def test_a_body_that_is_on_its_way_is_answered_when_the_server_is_told_to_stop(
    export_dir,
):
    body = json.dumps({"inputs": [to_base64(RED)]}).encode()
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
    line = _refusal(f"--export_dir={missing}", *flags)
    assert f"Received: --export_dir={missing}" in line
    (export_dir / "models.config").write_text("model_config_list {}")
    line = _refusal(f"--export_dir={export_dir}", *flags)
    assert str(export_dir / "models.config") in line
    (export_dir / "models.config").unlink()
    line = _refusal(f"--export_dir={tmp_path}", "--host=no.such.host.invalid", *flags)
    assert "no.such.host.invalid" in line
