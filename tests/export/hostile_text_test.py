"""Text from outside reaches no terminal and no log as it is."""

import importlib
import json
import pathlib

import fakes
import grpc
import pytest
from absl import flags
from fakes.server_requests import RED, call_grpc, call_rest, make_predict_request

from export.local_server import log
from export.protocol import messages
from export.remote import classify

# Terminal escapes (also the one-byte form and a title), HTML, a formula of a
# spreadsheet, line ends, a change of the direction of text, a bell.
HOSTILE = "=cmd|'/C calc'!A0\x1b[31m\x9b2J\x1b]0;x\x07\r\n\u2028<script>\u202ex"
ESCAPED = r"=cmd|'/C calc'!A0\x1b[31m\x9b2J\x1b]0;x\x07\r\n\u2028<script>\u202ex"


def _assert_harmless(text: str, *, lines: int) -> None:
    assert len(text.split("\n")) - 1 == lines
    assert len(text.splitlines()) == lines
    assert all(line.isprintable() for line in text.split("\n")), ascii(text)


def test_lines_of_the_server(capsys):
    log.log(f"version 3 is not served: {HOSTILE}")
    log.log(log.to_one_line(ValueError(HOSTILE)))
    log.log(log.to_one_line(b"\x1b[31m\xff"))
    printed = capsys.readouterr().out
    _assert_harmless(printed, lines=3)
    assert printed.startswith(f"version 3 is not served: {ESCAPED}\n")


@pytest.fixture
def client():
    """The module of the command: its flags have names of those of export.drift."""
    defined = flags.FLAGS.flags_by_module_dict().get("export.drift", [])
    for name in {flag.name for flag in defined} & set(flags.FLAGS):
        delattr(flags.FLAGS, name)
    return importlib.import_module("export.client")


def test_lines_of_the_client(client, capsys):
    state = {"version": HOSTILE, "state": HOSTILE, "status": {"error_message": HOSTILE}}
    assert not client._print_health({"model_version_status": [state]})
    tensor = {"dtype": HOSTILE, "tensor_shape": {"dim": [{"size": "-1"}]}}
    signature = {"method_name": HOSTILE, "inputs": {HOSTILE: tensor}}
    client._print_metadata(
        {
            "model_spec": {"version": HOSTILE},
            "metadata": {"signature_def": {"signature_def": {HOSTILE: signature}}},
        }
    )
    rows = [
        {"name": HOSTILE, "label": HOSTILE, "probability": 0.5, "is_unknown": True},
        {"name": HOSTILE, "error": HOSTILE},
    ]
    for as_json in (False, True):
        assert not client._print_rows(iter(rows), width=10, as_json=as_json)
    printed = capsys.readouterr().out
    _assert_harmless(printed, lines=1 + 3 + 3 + 2)
    assert printed.count(ESCAPED) == 3 + 1 + 2 + 1 + 2 + 2
    assert json.loads(printed.splitlines()[-1]) == rows[1]
    classify._print_once(HOSTILE)
    assert capsys.readouterr().err == f"{ESCAPED}\n"


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory):
    """A server of a model whose labels are hostile, in a directory that is, too."""
    export_dir = tmp_path_factory.mktemp("hostile") / "a\n\x1b[31m<b>"
    export_dir.mkdir()
    model = tmp_path_factory.mktemp("models") / "hostile"
    fakes.publish(fakes.write_servable(model, suffix=HOSTILE), export_dir, 3)
    with fakes.Server(export_dir) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_labels_and_names_from_server_to_table(hostile_server, tmp_path, protocol):
    folder = tmp_path / "a\nb"
    folder.mkdir()
    for name in ("=1+1\x1b[31m.jpg", "<img src=x>\n2.jpg", "damaged\r.jpg"):
        (folder / name).write_bytes(b"" if name.startswith("damaged") else RED)
    (folder / "\x1b]0;notes\x07.txt").write_text("")
    address = hostile_server.grpc if protocol == "grpc" else hostile_server.rest
    flags = (f"--protocol={protocol}", f"--server={address}")
    done = fakes.run("-m", "export.client", *flags, str(folder))
    assert done.returncode == 1
    _assert_harmless(done.stdout, lines=4)
    _assert_harmless(done.stderr, lines=len(done.stderr.splitlines()))
    head, first, second, third = done.stdout.splitlines()
    for line, name in ((first, r"2.jpg"), (second, r"1b[31m.jpg"), (third, "damaged")):
        assert name in line
    assert head.index("probability") == first.index("0.") - 5
    assert [first.count(ESCAPED), second.count(ESCAPED)] == [1, 1]
    done = fakes.run("-m", "export.client", *flags, "--json", str(folder))
    _assert_harmless(done.stdout, lines=3)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["label"] for row in rows if "label" in row} == {f"red{HOSTILE}", ""}
    assert {pathlib.Path(row["name"]).name for row in rows} == {
        *("=1+1\x1b[31m.jpg", "<img src=x>\n2.jpg", "damaged\r.jpg")
    }
    for flag in ("--health", "--metadata"):
        done = fakes.run("-m", "export.client", *flags, flag)
        assert done.returncode == 0
        _assert_harmless(done.stdout, lines=len(done.stdout.splitlines()))


@pytest.mark.slow
def test_requests_with_hostile_text_leave_the_log_clean(hostile_server):
    request = make_predict_request()
    request.model_spec.signature_name = HOSTILE
    with pytest.raises(grpc.RpcError) as caught:
        call_grpc(hostile_server, "Predict", request)
    assert caught.value.details().isprintable()
    for body in ({"signature_name": HOSTILE, "inputs": []}, {HOSTILE: [HOSTILE]}):
        status, reply = call_rest(hostile_server, "POST", ":predict", body)
        assert (status, reply["error"].isprintable()) == (400, True)
    config = hostile_server.export_dir / messages.MODELS_FILE
    config.write_text(f"model_config_list {{ config {{ name: '{HOSTILE}' }} }}")
    hostile_server.wait_for("all stays as it is")
    config.write_text(
        f"model_config_list {{ config {{ name: '{messages.MODEL_NAME}' }} }}"
    )
    damaged = hostile_server.export_dir / "4"
    damaged.mkdir()
    (damaged / "saved_model.pb").write_text(HOSTILE)
    hostile_server.wait_for("version 4 is not served")
    assert all(line.isprintable() for line in hostile_server.lines)
