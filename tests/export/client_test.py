import base64
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import fakes
import grpc
import numpy as np
import psutil
import pytest
from fakes.stub_servers import GOOD_REST_REPLY, GrpcStub, rest_stub
from PIL import Image

from pipeline.inspection.reencoding import StoredForm

# Each test starts the command as a process.
pytestmark = pytest.mark.slow

PROTOCOLS = ("grpc", "rest")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    export_dir = tmp_path_factory.mktemp("export")
    directory = tmp_path_factory.mktemp("models") / "first"
    model = fakes.write_servable(directory, form=StoredForm(background="mean"))
    fakes.publish(model, export_dir, 7)
    with fakes.Server(export_dir) as running:
        yield running


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Twelve photographs, a text file, and a damaged photograph in a subfolder."""
    for index in range(12):
        colour = fakes.COLOURS[index % 3]
        (tmp_path / f"{index:02d}-{colour}.JPG").write_bytes(fakes.colour_jpeg(colour))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "damaged.jpg").write_bytes(fakes.colour_jpeg("red")[:99])
    (tmp_path / "notes.txt").write_text("no photograph")
    return tmp_path


def _client(*arguments, timeout_seconds: float = 60) -> subprocess.CompletedProcess:
    return fakes.run(
        "-m", "export.client", *map(str, arguments), timeout_seconds=timeout_seconds
    )


def _flags(server, protocol: str) -> list[str]:
    address = server.grpc if protocol == "grpc" else server.rest
    return [f"--protocol={protocol}", f"--server={address}"]


def _rows(done: subprocess.CompletedProcess) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def _error(done: subprocess.CompletedProcess) -> str:
    """Returns the only error line, which must be the last one."""
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert line == done.stderr.splitlines()[-1]
    assert line.startswith("export.client: error: ")
    return line


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_folder_becomes_a_table(server, folder, protocol):
    done = _client(*_flags(server, protocol), "--batch_size=5", folder)
    assert done.returncode == 1  # for the damaged one
    assert f"skipped, no suffix of an image: 1 ({folder / 'notes.txt'})" in done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["photograph", "probability", "label"]
    assert len(lines) == 13
    for index, line in enumerate(lines[:12]):
        colour = fakes.COLOURS[index % 3]
        name, probability, label = line.split()
        assert (name, label) == (str(folder / f"{index:02d}-{colour}.JPG"), colour)
        assert 0.9 < float(probability) <= 1
    assert re.split(r"\s{2,}", lines[12]) == [
        str(folder / "deep" / "damaged.jpg"),
        "not decodable",
    ]


def test_both_protocols_give_the_same_json_in_the_order_of_the_files(server, folder):
    images = sorted(folder.glob("*.JPG"), reverse=True)
    rows = {}
    for protocol in PROTOCOLS:
        done = _client(
            *_flags(server, protocol),
            "--json",
            "--batch_size=1",
            "--in_flight=8",
            *images,
        )
        assert done.returncode == 0
        rows[protocol] = _rows(done)
    names = [row.pop("name") for row in rows["grpc"]]
    assert names == [row.pop("name") for row in rows["rest"]] == [*map(str, images)]
    assert [row["label"] for row in rows["grpc"]] == [
        pathlib.Path(name).stem[3:] for name in names
    ]
    for by_grpc, by_rest in zip(rows["grpc"], rows["rest"], strict=True):
        assert by_grpc["probability"] == max(by_grpc["probabilities"])
        # The last bits may differ between two runs of a graph on several threads.
        for key in ("probabilities", "probability"):
            assert by_rest.pop(key) == pytest.approx(by_grpc.pop(key))
        assert by_rest == by_grpc


def test_an_unknown_image_keeps_its_best_guess(folder):
    reply = json.loads(GOOD_REST_REPLY)
    reply["outputs"]["is_unknown"] = [True]
    with rest_stub([(200, json.dumps(reply).encode())]) as (address, _):
        photograph = folder / "00-red.JPG"
        done = _client("--protocol=rest", f"--server={address}", photograph)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].endswith("0.7500  unknown (best guess: x)")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_background_is_that_of_the_served_model(server, tmp_path, protocol):
    """Hidden pixels are blue; of the visible ones most are green and some are red."""
    image = Image.new("RGBA", (40, 40), (0, 0, 255, 0))
    image.paste((0, 255, 0, 255), (0, 0, 10, 10))
    image.paste((255, 0, 0, 255), (0, 0, 10, 2))
    image.save(tmp_path / "cut.png")
    done = _client(*_flags(server, protocol), "--json", tmp_path / "cut.png")
    assert done.returncode == 0, done.stderr
    (row,) = _rows(done)
    red, green, blue = row["probabilities"]
    # The mean is (51, 204, 0) everywhere; on white, all three would be nearly equal.
    assert row["label"] == "green"
    assert green > 0.99
    assert blue < red < 0.01


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_that_cannot_be_read_or_decoded_spoils_its_own_row(
    server, folder, protocol, tmp_path
):
    red, *_ = sorted(folder.glob("*.JPG"))
    missing, text = folder / "missing.jpg", folder / "notes.txt"
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    done = _client(*_flags(server, protocol), "--json", missing, text, red, pipe)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:-1] == []  # of one line of progress
    no_file, no_image, image, no_end = _rows(done)
    assert no_end == {"name": str(pipe), "error": "not a regular file"}
    assert no_file == {"name": str(missing), "error": "No such file or directory"}
    assert (no_image["error"], no_image["decode_ok"]) == ("not decodable", False)
    assert no_image["probabilities"] == [0.0, 0.0, 0.0]
    assert ("error" in image, image["label"]) == (False, "red")


@pytest.mark.parametrize("arguments", [[], ["EMPTY"]])
def test_nothing_to_send_is_an_error(tmp_path, arguments):
    arguments = [str(tmp_path) for _ in arguments]
    assert "Received: " in _error(_client("--server=localhost:1", *arguments))


def test_flags_are_checked():
    for flag in (
        "--server=localhost",
        "--server=localhost:99999",
        "--batch_size=0",
        "--protocol=smtp",
    ):
        done = _client(flag, "x.jpg")
        assert done.returncode == 1
        assert flag.split("=")[1] in done.stderr
        assert "Traceback" not in done.stderr


def test_batches_and_requests_in_flight_are_as_many_as_the_flags_say(folder):
    def slowly(call, images):
        time.sleep(0.1)

    with GrpcStub(slowly) as server:
        flags = ("--batch_size=2", "--in_flight=3", f"--server={server.address}")
        done = _client(*flags, *folder.glob("*.JPG"))
    assert done.returncode == 0
    assert [len(batch) for batch in server.batches] == [2] * 6
    assert server.most_running_calls == 3


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("INVALID_ARGUMENT", "error of the stub"),
        ("RESOURCE_EXHAUSTED", "--batch_size"),
        ("NOT_FOUND", "--health"),
        ("INTERNAL", "error of the stub"),
    ],
)
def test_another_error_is_final_and_what_came_before_is_printed(folder, code, advice):
    def decide(call, images):
        return grpc.StatusCode[code] if call == 2 else None

    images = sorted(folder.glob("*.JPG"))
    with GrpcStub(decide) as server:
        flags = (f"--server={server.address}", "--batch_size=2", "--in_flight=1")
        done = _client(*flags, "--json", *images)
    line = _error(done)
    assert server.address in line
    assert f"{images[4]} and 1 more" in line
    assert advice in line
    assert [row["name"] for row in _rows(done)] == [*map(str, images[:4])]
    assert len(server.batches) <= 6  # each at most once


def test_a_server_that_is_too_slow_is_given_up(folder):
    def slowly(call, images):
        time.sleep(2)

    with GrpcStub(slowly) as server:
        done = _client(f"--server={server.address}", "--timeout=0.5", folder)
    assert "--timeout" in _error(done)
    assert max(server.remaining_seconds) < 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_server_there(folder, protocol):
    flags = (f"--protocol={protocol}", "--server=localhost:1", "--timeout=1")
    start = time.monotonic()
    line = _error(_client(*flags, folder / "00-red.JPG"))
    assert 0.5 < time.monotonic() - start < 30
    assert "localhost:1" in line
    assert "00-red.JPG" in line
    assert "is the server up" in line
    assert "is the server up" in _error(_client(*flags, "--health"))


def test_the_wrong_protocol_for_the_port(server, folder):
    image = folder / "00-red.JPG"
    swapped = [f"--server={server.rest}", "--protocol=grpc", "--timeout=1"]
    assert "--protocol" in _error(_client(*swapped, image))
    swapped = [f"--server={server.grpc}", "--protocol=rest", "--timeout=1"]
    line = _error(_client(*swapped, image))
    assert "--protocol" in line
    assert line.isprintable()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_comes_later_is_waited_for(server, folder, protocol):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flag = "--port" if protocol == "grpc" else "--rest_port"
    client = subprocess.Popen(
        [
            *(sys.executable, "-m", "export.client", f"--protocol={protocol}"),
            *(f"--server=localhost:{port}", str(folder / "00-red.JPG"), "--json"),
            "--timeout=60",
        ],
        cwd=fakes.REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any("not answered yet" in line for line in client.stderr)
    with fakes.Server(server.export_dir, f"{flag}={port}"):
        out, err = client.communicate(timeout=60)
    assert client.returncode == 0, err
    assert json.loads(out)["label"] == "red"
    assert "not answered yet" not in err


def test_rest_asks_again_after_503_alone(folder):
    image = folder / "00-red.JPG"
    busy = (503, b'{"error": "busy"}')
    with rest_stub([busy, busy, (200, GOOD_REST_REPLY)]) as (address, requests):
        done = _client("--protocol=rest", f"--server={address}", "--json", image)
    assert done.returncode == 0
    assert _rows(done)[0]["probability"] == 0.75
    assert len(requests) == 3
    encoded = json.loads(requests[0][1])["inputs"][0]["b64"]
    assert base64.b64decode(encoded) == image.read_bytes()
    with rest_stub([(400, b'{"error": "no such input"}')]) as (address, requests):
        done = _client("--protocol=rest", f"--server={address}", "--json", image)
    assert "no such input" in _error(done)
    assert len(requests) == 1


def test_a_reply_that_is_none_of_an_export_is_an_error(folder):
    with rest_stub([(200, b'{"outputs": {"label": ["x"]}}')]) as (address, _):
        done = _client("--protocol=rest", f"--server={address}", folder / "00-red.JPG")
    assert "for each image. Received: label" in _error(done)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_health_and_metadata(server, protocol):
    flags = _flags(server, protocol)
    done = _client(*flags, "--health")
    assert (done.returncode, done.stdout) == (0, "photographs version 7: AVAILABLE\n")
    done = _client(*flags, "--metadata")
    assert done.returncode == 0
    head, *lines = done.stdout.splitlines()
    assert head == "photographs version 7"
    first = lines.index("serving_default (tensorflow/serving/predict)")
    assert lines[first + 1 : first + 6] == [
        "  takes image_bytes: string [-1]",
        "  gives class_id: int64 [-1]",
        "  gives decode_ok: bool [-1]",
        "  gives label: string [-1]",
        "  gives probabilities: float [-1, 3]",
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_version_is_no_health(tmp_path, protocol):
    (tmp_path / "1").mkdir()
    with fakes.Server(tmp_path) as server:
        done = _client(*_flags(server, protocol), "--health")
        assert done.returncode == 1
        assert done.stdout.startswith("photographs version 1: END, ")
        assert "SavedModel" in done.stdout
        done = _client(*_flags(server, protocol), fakes.REPOSITORY / "LICENSE")
        assert "--health" in _error(done)


def test_bench_counts_every_image_and_request(server, folder):
    images = sorted(folder.glob("*.JPG"))
    flags = (*_flags(server, "grpc"), "--bench", "--repeat=5", "--batch_size=4")
    done = _client(*flags, *images)
    assert done.returncode == 0
    speed, latency = done.stdout.splitlines()
    assert re.fullmatch(r"\d+\.\d images/s: 60 in \d+\.\d\d s", speed)
    match = re.fullmatch(
        r"15 requests: p50 (\S+) ms, p90 (\S+) ms, p99 (\S+) ms", latency
    )
    p50, p90, p99 = map(float, match.groups())
    assert 0 < p50 <= p90 <= p99


def test_a_pipe_that_is_closed_is_no_error(server, folder):
    command = (
        f"{sys.executable} -m export.client --server={server.grpc} --batch_size=1 "
    )
    done = subprocess.run(
        ["sh", "-c", f"{command} {folder} {folder} {folder} | head -n 2"],
        cwd=fakes.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 2
    assert "Error" not in done.stderr


def test_memory_holds_what_is_in_flight_and_no_more(server, tmp_path):
    """600 MB of files go through far less memory."""
    rng = np.random.default_rng(0)
    for index in range(100):
        (tmp_path / f"{index:03d}.jpg").write_bytes(rng.bytes(2 << 20))
    flags = ("--batch_size=2", "--in_flight=2", "--json", f"--server={server.grpc}")
    client = subprocess.Popen(
        [sys.executable, "-m", "export.client", *flags, *[str(tmp_path)] * 3],
        cwd=fakes.REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak_bytes = 0
    while client.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak_bytes = max(peak_bytes, psutil.Process(client.pid).memory_info().rss)
        time.sleep(0.01)
    assert client.returncode == 1  # none can be decoded
    assert 20 << 20 < peak_bytes < 200 << 20


def test_pythons_tensorflow_is_not_loaded():
    script = """
import sys
from export import client
assert "tensorflow.python" not in sys.modules and "keras" not in sys.modules
"""
    done = fakes.run("-c", script)
    assert done.returncode == 0, done.stderr


def test_every_address_is_one_of_loopback(server, folder):
    flags = ("--bench", "--repeat=200", "--batch_size=1", f"--server={server.grpc}")
    client = subprocess.Popen(
        [sys.executable, "-m", "export.client", *flags, str(folder / "00-red.JPG")],
        cwd=fakes.REPOSITORY,
        env={**os.environ, "http_proxy": "http://192.0.2.1:3128"},
        stdout=subprocess.DEVNULL,
    )
    addresses = set()
    while client.poll() is None:
        with contextlib.suppress(psutil.Error):
            for connection in psutil.Process(client.pid).net_connections("inet"):
                if connection.raddr:
                    addresses.add(connection.raddr.ip)
        time.sleep(0.02)
    assert client.returncode == 0
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
