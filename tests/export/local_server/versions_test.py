import shutil
import time

import fakes
import grpc
import pytest
from fakes.load import Load, list_states
from fakes.server_requests import (
    RED,
    call_grpc,
    call_rest,
    is_alive,
    list_labels,
    make_predict_request,
    make_status_request,
    to_base64,
)

from export.protocol import messages

NAME = messages.MODEL_NAME
pytestmark = pytest.mark.slow


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
        assert list_states(server) == {2: "AVAILABLE"}
        with Load(server) as load:
            load.wait_for((2, "red-2"))
            (export_dir / "2").rename(export_dir / "2.withdrawn")
            server.wait_for("version 2 unloaded")
            load.wait_for((1, "red"))
        assert list_states(server) == {2: "END", 1: "AVAILABLE"}
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
        assert list_labels(call_grpc(server, "Predict", make_predict_request())) == [
            "red"
        ]
        assert list_states(server) == {2: "END", 1: "AVAILABLE"}
        with pytest.raises(grpc.RpcError) as caught:
            call_grpc(
                server, "Predict", make_predict_request(spec="version { value: 2 }")
            )
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        (export_dir / "2" / messages.WARMUP_FILE).write_bytes(good)
        server.wait_for("version 2 loaded")
        server.wait_for("version 1 unloaded")
        assert list_labels(call_grpc(server, "Predict", make_predict_request())) == [
            "red-2"
        ]


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
            call_grpc(server, "Predict", make_predict_request())
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        fakes.publish(models[0], export_dir, 3)
        server.wait_for("version 3 loaded")
        assert is_alive(server)


def test_a_server_waits_for_its_first_version_and_does_without_the_last(
    models, tmp_path
):
    for name in (".tmp-9", "notes", "1.5", "-4", "0x5"):
        (tmp_path / name).mkdir()
    with fakes.Server(tmp_path) as server:
        assert "waiting" in server.wait_for("no version to serve")
        with pytest.raises(grpc.RpcError) as caught:
            call_grpc(server, "GetModelStatus", make_status_request())
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        fakes.publish(models[0], tmp_path, 3)
        server.wait_for("version 3 loaded")
        assert is_alive(server)
        (tmp_path / "3").rename(tmp_path / "gone")
        server.wait_for("version 3 unloaded")
        server.wait_for("no version to serve", count=2)
        assert list_states(server) == {3: "END"}
        (tmp_path / "gone").rename(tmp_path / "3")
        server.wait_for("version 3 loaded", count=2)
        assert list_states(server) == {3: "AVAILABLE"}
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
        request = make_predict_request(spec=f"version_label: '{name}'")
        return call_grpc(server, "Predict", request).model_spec.version.value

    with fakes.Server(export_dir) as server:
        assert list_states(server) == {3: "AVAILABLE", 2: "AVAILABLE"}
        assert by_label("old") == 2
        # A label moves when the version it moves to is there.
        config.write_text(
            _config("specific { versions: 1 versions: 3 }", _label("old", 1))
        )
        server.wait_for("version 2 unloaded")
        assert list_states(server) == {3: "AVAILABLE", 2: "END", 1: "AVAILABLE"}
        body = {"instances": [to_base64(RED)]}
        status, reply = call_rest(server, "POST", "/labels/old:predict", body)
        assert (status, reply["predictions"][0]["label"]) == (200, "red")
        config.write_text("no config {")
        line = server.wait_for("all stays as it is")
        assert str(config) in line
        assert by_label("old") == 1
        config.write_text(_config("all {}"))
        server.wait_for("version 2 loaded", count=2)
        assert set(list_states(server).values()) == {"AVAILABLE"}
        with pytest.raises(grpc.RpcError):
            by_label("old")
        config.unlink()
        server.wait_for("all stays as it is", count=2)
        assert set(list_states(server).values()) == {"AVAILABLE"}


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
