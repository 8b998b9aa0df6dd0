import http.server
import shlex
import subprocess
import threading

import kubernetes_validate
import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)

from export.protocol import messages
from export.protocol.messages import model_server_config_pb2
from export.version import publish, server_files


@pytest.fixture
def export_dir(tmp_path):
    for version in ("7", "30", "1795508589"):
        (tmp_path / version).mkdir()
    (tmp_path / ".withdrawn-1795508600").mkdir()
    (tmp_path / "12").write_text("a file is no version")
    server_files.write_server_files(tmp_path, publish.list_versions(tmp_path))
    return tmp_path


def _message(fields):
    """A message with fields of these names, types and, for wrapped ones, a value.

    TensorFlow Serving's wheel holds no class for two of its text files, so their
    messages are declared here by what its protos say.
    """
    kinds = {"int64": 3, "bool": 8, "string": 9, "message": 11}
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{'_'.join(fields)}.proto", package="test", syntax="proto3"
    )
    wrapped = file.message_type.add(name="Wrapped")
    wrapped.field.add(name="value", number=1, type=3, label=1)
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="enable", number=1, type=8, label=1)
    inner.field.add(name="path", number=2, type=9, label=1)
    outer = file.message_type.add(name="Outer")
    for number, (name, kind) in enumerate(fields.items(), start=1):
        kind, _, of = kind.partition(" ")
        repeated = kind == "repeated"
        field = outer.field.add(name=name, number=number, label=3 if repeated else 1)
        field.type = kinds["int64" if repeated else kind]
        if of and not repeated:
            field.type_name = f".test.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Outer"))()


def test_the_server_finds_the_newest_versions_and_their_labels(export_dir):
    config = text_format.Parse(
        (export_dir / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == (messages.MODEL_NAME, "tensorflow")
    assert model.base_path == f"/models/{messages.MODEL_NAME}"
    assert model.model_version_policy.latest.num_versions == 2
    assert dict(model.version_labels) == {"stable": 1795508589, "previous": 30}


def test_the_first_version_has_no_previous_one(tmp_path):
    (tmp_path / "5").mkdir()
    server_files.write_server_files(tmp_path, publish.list_versions(tmp_path))
    config = text_format.Parse(
        (tmp_path / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    assert dict(config.model_config_list.config[0].version_labels) == {"stable": 5}


def test_batches_are_filled_up_to_what_the_warm_up_has_seen(export_dir):
    parsed = text_format.Parse(
        (export_dir / "batching_parameters.txt").read_text(),
        _message(
            {
                "max_batch_size": "message Wrapped",
                "batch_timeout_micros": "message Wrapped",
                "max_enqueued_batches": "message Wrapped",
                "num_batch_threads": "message Wrapped",
                "allowed_batch_sizes": "repeated int64",
            }
        ),
    )
    assert tuple(parsed.allowed_batch_sizes) == messages.WARMUP_BATCH_SIZES
    assert parsed.max_batch_size.value == parsed.allowed_batch_sizes[-1]
    assert parsed.num_batch_threads.value > 0


def test_prometheus_is_on(export_dir):
    parsed = text_format.Parse(
        (export_dir / "monitoring.config").read_text(),
        _message({"prometheus_config": "message Inner"}),
    )
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path == "/monitoring/prometheus/metrics"


def _arguments(command):
    return dict(a.removeprefix("--").split("=", 1) for a in command if "=" in a)


def test_every_way_to_start_reads_the_files_that_are_there(export_dir):
    compose = yaml.safe_load((export_dir / "docker-compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"serving", "serving-gpu"}
    assert services["serving"]["image"].startswith("tensorflow/serving:")
    assert services["serving-gpu"]["image"].endswith("-gpu")
    (device,) = services["serving-gpu"]["deploy"]["resources"]["reservations"][
        "devices"
    ]
    assert device["capabilities"] == ["gpu"]
    deployment, service = yaml.safe_load_all(
        (export_dir / "kubernetes.yaml").read_text()
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    command = shlex.split(server_files.docker_command(export_dir).replace("\\\n", " "))
    assert command[:2] == ["docker", "run"]
    assert f"{export_dir}:/models/{messages.MODEL_NAME}:ro" in command
    started = [
        *(services[name]["command"] for name in services),
        container["args"],
        command[command.index("tensorflow/serving:latest") + 1 :],
    ]
    for arguments in map(_arguments, started):
        assert arguments == _arguments(started[0])
        for flag in ("model_config", "batching_parameters", "monitoring_config"):
            name = arguments[f"{flag}_file"].removeprefix(
                f"/models/{messages.MODEL_NAME}/"
            )
            assert (export_dir / name).is_file()
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_kubernetes_takes_the_manifest(export_dir):
    version = kubernetes_validate.latest_version()
    for manifest in yaml.safe_load_all((export_dir / "kubernetes.yaml").read_text()):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("state", "healthy"), [("AVAILABLE", True), ("LOADING", False), (None, False)]
)
def test_the_health_check_asks_for_a_version_that_is_there(export_dir, state, healthy):
    """The command itself, on another port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == f"/v1/models/{messages.MODEL_NAME}"
            self.send_response(200)
            self.end_headers()
            status = f'{{"model_version_status": [{{"state": "{state}"}}]}}'
            self.wfile.write(status.encode())

        def log_message(self, *_):
            pass

    compose = yaml.safe_load((export_dir / "docker-compose.yml").read_text())
    test = compose["services"]["serving"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "bash", "-c"]
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_port
        if state is None:
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            ["bash", "-c", test[3].replace("localhost/8501", f"127.0.0.1/{port}")],
            timeout=20,
            capture_output=True,
            check=False,
        )
        if state is not None:
            server.shutdown()
    assert (done.returncode == 0) == healthy
    probe = yaml.safe_load_all((export_dir / "kubernetes.yaml").read_text())
    container = next(probe)["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["exec"]["command"] == test[1:]
