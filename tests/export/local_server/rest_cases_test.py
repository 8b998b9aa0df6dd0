"""Sends the requests of rest_cases.yaml and compares what comes back."""

import base64
import gzip
import http.client
import json
import pathlib
import socket
import string
import zlib

import fakes
import pytest
import yaml
from fakes.server_requests import GREEN, NO_IMAGE, RED

from export.protocol import messages

MODEL = f"/v1/models/{messages.MODEL_NAME}"
pytestmark = pytest.mark.slow


def _make_example(image: bytes) -> bytes:
    example = messages.example_pb2.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(image)
    return example.SerializeToString()


_WORDS = {
    "RED": base64.b64encode(RED).decode(),
    "GREEN": base64.b64encode(GREEN).decode(),
    "NONE": base64.b64encode(NO_IMAGE).decode(),
    "EXAMPLE": base64.b64encode(_make_example(GREEN)).decode(),
    "HEAD": f"POST {MODEL}:predict HTTP/1.1\r\nHost: x",
    "LONG": "x" * 100_000,
    "MANY": "".join(f"\r\nX-{number}: x" for number in range(2000)),
}


def _list_cases() -> list:
    text = pathlib.Path(__file__).with_name("rest_cases.yaml").read_text()
    return [
        pytest.param(case, id=f"{group}-{number}")
        for group, cases in yaml.safe_load(text).items()
        for number, case in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def two_versions(models, tmp_path_factory):
    """A server of two versions with labels."""
    export_dir = tmp_path_factory.mktemp("two_versions")
    for number, model in zip((5, 7), models, strict=True):
        fakes.publish(model, export_dir, number)
    (export_dir / "models.config").write_text(
        f"model_config_list {{ config {{ name: '{messages.MODEL_NAME}' "
        "model_version_policy { latest { num_versions: 2 } } "
        "version_labels { key: 'stable' value: 7 } "
        "version_labels { key: 'previous' value: 5 } } }"
    )
    with fakes.Server(export_dir) as running:
        before = list(running.lines)
        yield running
        # No request made the server write a line.
        assert running.lines[len(before) :] == []


def _encode(body: bytes, encoding: str) -> bytes:
    if not body:
        return body
    if encoding in ("gzip", "x-gzip"):
        return gzip.compress(body)
    if encoding == "cut gzip":
        return gzip.compress(body)[:-9]
    return zlib.compress(body) if encoding == "deflate" else body


def _send(address: str, case: dict) -> tuple[int, str, bytes]:
    """Returns status, content type and body of the answer to one case."""
    method, _, path = case.get("ask", "POST :predict").partition(" ")
    path = path if path.startswith(("/v1", "/V1", "http")) else MODEL + path
    body = string.Template(case["send"]).substitute(_WORDS) if "send" in case else ""
    headers = {}
    if "as" in case:
        headers["Content-Encoding"] = case["as"].replace(" ", "-")
    connection = http.client.HTTPConnection(address, timeout=30)
    # The client must send malformed paths, too.
    connection._validate_path = lambda path: None
    data = _encode(body.encode(errors="surrogatepass"), case.get("as", ""))
    connection.request(method, path, data or None, headers)
    response = connection.getresponse()
    answer = response.status, response.headers["Content-Type"], response.read()
    connection.close()
    return answer


def _send_raw(address: str, case: dict) -> int:
    """Returns the status of the answer to the bytes of one case, or 0 if none comes."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(string.Template(case["raw"]).substitute(_WORDS).encode())
        if not case["code"]:
            connection.shutdown(socket.SHUT_WR)
        status_line = connection.makefile("rb").readline()
    return int(status_line.split()[1]) if status_line else 0


def _digest(reply: dict) -> list[str]:
    """Returns what a case expects of a reply; see rest_cases.yaml."""
    if "predictions" in reply:
        rows = reply["predictions"]
        return [row["label"] if "label" in row else row["classes"][0] for row in rows]
    if "outputs" in reply:
        return reply["outputs"]["label"]
    if "results" in reply:
        return [ranking[0][0] for ranking in reply["results"]]
    if "metadata" in reply:
        return sorted(reply["metadata"]["signature_def"]["signature_def"])
    states = reply["model_version_status"]
    return [f"{state['version']} {state['state']}" for state in states]


@pytest.mark.parametrize("case", _list_cases())
def test_the_answer_is_that_of_tensorflow_serving(two_versions, case):
    if "raw" in case:
        assert _send_raw(two_versions.rest, case) == case["code"]
        return
    status, content_type, body = _send(two_versions.rest, case)
    assert (status, content_type) == (case.get("code", 200), "application/json"), body
    reply = json.loads(body)
    if "gives" in case:
        assert _digest(reply) == case["gives"]
    else:
        assert list(reply) == ["error"]
        assert case["says"] in reply["error"]
