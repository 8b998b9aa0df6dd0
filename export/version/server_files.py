"""The files beside the versions: what TensorFlow Serving is started with."""

import pathlib
import textwrap
from collections.abc import Sequence

from export.protocol import messages
from pipeline.system import files

BATCHING_FILE = "batching_parameters.txt"
MONITORING_FILE = "monitoring.config"
COMPOSE_FILE = "docker-compose.yml"
KUBERNETES_FILE = "kubernetes.yaml"

CONFIG_POLL_SECONDS = 5

# Where the export directory is seen in the container.
_MOUNT = f"/models/{messages.MODEL_NAME}"

_ARGUMENTS = (
    f"--model_config_file={_MOUNT}/{messages.MODELS_FILE}",
    f"--model_config_file_poll_wait_seconds={CONFIG_POLL_SECONDS}",
    # A label may move before the server has seen the version it moves to.
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_batching=true",
    f"--batching_parameters_file={_MOUNT}/{BATCHING_FILE}",
    f"--monitoring_config_file={_MOUNT}/{MONITORING_FILE}",
)

# The image has no curl, but bash opens connections.
_HEALTH = (
    "exec 3<>/dev/tcp/localhost/8501 && "
    f"printf 'GET /v1/models/{messages.MODEL_NAME} HTTP/1.0\\r\\n\\r\\n' >&3 && "
    "grep -q '\"AVAILABLE\"' <&3"
)


def write_server_files(export_dir: pathlib.Path, versions: Sequence[int]) -> None:
    """Writes the configuration for these versions, oldest first; each file whole."""
    contents = {
        messages.MODELS_FILE: _models(versions),
        BATCHING_FILE: _batching(),
        MONITORING_FILE: _monitoring(),
        COMPOSE_FILE: _compose(),
        KUBERNETES_FILE: _kubernetes(),
    }
    for name, text in contents.items():
        files.write_text(export_dir / name, text)


def docker_command(export_dir: pathlib.Path) -> str:
    """The line that serves an export directory on this machine."""
    arguments = " \\\n    ".join(_ARGUMENTS)
    return (
        "docker run --rm -p 8500:8500 -p 8501:8501 \\\n"
        f'  -v "{export_dir.resolve()}:{_MOUNT}:ro" \\\n'
        f"  --entrypoint tensorflow_model_server tensorflow/serving:latest \\\n"
        f"    --port=8500 --rest_api_port=8501 \\\n    {arguments}"
    )


def _models(versions: Sequence[int]) -> str:
    labels = dict(zip(("stable", "previous"), versions[:-3:-1], strict=False))
    labelled = "".join(
        f'    version_labels {{ key: "{label}" value: {version} }}\n'
        for label, version in labels.items()
    )
    return f"""\
# Read by --model_config_file. The two newest versions are loaded, so that the label
# "stable" always names one that is there, and going back to "previous" takes no time.
# Written anew with every export; other models of one server belong into another file.
model_config_list {{
  config {{
    name: "{messages.MODEL_NAME}"
    base_path: "{_MOUNT}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
{labelled}  }}
}}
"""


def _batching() -> str:
    sizes = "\n".join(
        f"allowed_batch_sizes: {size}" for size in messages.WARMUP_BATCH_SIZES
    )
    return f"""\
# Read by --batching_parameters_file. Requests that arrive within the timeout share a
# batch, which is filled up to the next allowed size; the warm-up has seen each of them.
# A request has at most max_batch_size rows, and at least one: without any it waits for
# others to share a batch with. A bad image sent to predict_strict fails all requests of
# its batch, to serving_default none. Images of two sizes sent to predict_pixels fail
# theirs: let clients agree on a size, or serve it without batching.
max_batch_size {{ value: {messages.WARMUP_BATCH_SIZES[-1]} }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: 100 }}
# About the number of cores, or of batches that a GPU works on at once.
num_batch_threads {{ value: 4 }}
{sizes}
"""


def _monitoring() -> str:
    return """\
# Read by --monitoring_config_file; Prometheus reads the path on the REST port.
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def _compose() -> str:
    arguments = "\n".join(f"    - {argument}" for argument in _ARGUMENTS)
    return f"""\
# `docker compose up serving`, or `docker compose --profile gpu up serving-gpu`, in this
# directory. SERVING_TAG pins a release of TensorFlow Serving.
x-serving: &serving
  entrypoint: [tensorflow_model_server]
  command:
    - --port=8500
    - --rest_api_port=8501
{arguments}
  ports:
    - "8500:8500" # gRPC
    - "8501:8501" # REST and Prometheus
  volumes:
    - .:{_MOUNT}:ro
  restart: unless-stopped
  healthcheck:
    test: ["CMD", "bash", "-c", {_yaml(_HEALTH)}]
    interval: 10s
    timeout: 5s
    retries: 3
    start_period: 120s

services:
  serving:
    <<: *serving
    image: tensorflow/serving:${{SERVING_TAG:-latest}}
  serving-gpu:
    <<: *serving
    profiles: [gpu]
    image: tensorflow/serving:${{SERVING_TAG:-latest}}-gpu
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
"""


def _yaml(text: str) -> str:
    """As a double-quoted YAML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _kubernetes() -> str:
    arguments = textwrap.indent(
        "\n".join(f"- {argument}" for argument in _ARGUMENTS), " " * 12
    )
    probe = f'["bash", "-c", {_yaml(_HEALTH)}]'
    return f"""\
# The claim "{messages.MODEL_NAME}-export" holds this directory.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {messages.MODEL_NAME}
  labels: {{app: {messages.MODEL_NAME}}}
spec:
  replicas: 2
  selector:
    matchLabels: {{app: {messages.MODEL_NAME}}}
  template:
    metadata:
      labels: {{app: {messages.MODEL_NAME}}}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8501"
        prometheus.io/path: /monitoring/prometheus/metrics
    spec:
      containers:
        - name: serving
          image: tensorflow/serving:latest
          command: [tensorflow_model_server]
          args:
            - --port=8500
            - --rest_api_port=8501
{arguments}
          ports:
            - {{name: grpc, containerPort: 8500}}
            - {{name: rest, containerPort: 8501}}
          # Loading replays the warm-up, so the first probe may wait for a while.
          startupProbe:
            exec: {{command: {probe}}}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 60
          readinessProbe:
            exec: {{command: {probe}}}
            periodSeconds: 10
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket: {{port: grpc}}
            periodSeconds: 20
          resources:
            requests: {{cpu: "2", memory: 2Gi}}
            limits: {{memory: 4Gi}}
          volumeMounts:
            - {{name: export, mountPath: {_MOUNT}, readOnly: true}}
      volumes:
        - name: export
          persistentVolumeClaim: {{claimName: {messages.MODEL_NAME}-export, readOnly: true}}
---
apiVersion: v1
kind: Service
metadata:
  name: {messages.MODEL_NAME}
spec:
  selector: {{app: {messages.MODEL_NAME}}}
  ports:
    - {{name: grpc, port: 8500, targetPort: grpc}}
    - {{name: rest, port: 8501, targetPort: rest}}
"""
