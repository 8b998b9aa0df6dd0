"""Renders the files beside the versions that start TensorFlow Serving."""

import json
import pathlib
from collections.abc import Sequence

from export.protocol import messages
from pipeline.system import files, templates

BATCHING_FILE = "batching_parameters.txt"
MONITORING_FILE = "monitoring.config"
COMPOSE_FILE = "docker-compose.yml"
KUBERNETES_FILE = "kubernetes.yaml"

# How often a server reads models.config again.
CONFIG_POLL_SECONDS = 5

_TEMPLATES_DIR = pathlib.Path(__file__).parent / "templates"

# The labels of the newest versions, the newest first.
LABELS = ("stable", "previous")

# The path of the export directory in the container.
_MOUNT = f"/models/{messages.MODEL_NAME}"

_ARGUMENTS = (
    f"--model_config_file={_MOUNT}/{messages.MODELS_FILE}",
    f"--model_config_file_poll_wait_seconds={CONFIG_POLL_SECONDS}",
    # A label may move to a version before the server has seen that version.
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_batching=true",
    f"--batching_parameters_file={_MOUNT}/{BATCHING_FILE}",
    f"--monitoring_config_file={_MOUNT}/{MONITORING_FILE}",
)

# In bash because the image of TensorFlow Serving has no curl.
_HEALTH_COMMAND = (
    "exec 3<>/dev/tcp/localhost/8501 && "
    f"printf 'GET /v1/models/{messages.MODEL_NAME} HTTP/1.0\\r\\n\\r\\n' >&3 && "
    "grep -q '\"AVAILABLE\"' <&3"
)


def write_server_files(export_dir: pathlib.Path, versions: Sequence[int]) -> None:
    """Writes the files for these versions, oldest first; each file appears whole."""
    labels = dict(zip(LABELS, reversed(versions), strict=False))
    for name in (
        messages.MODELS_FILE,
        BATCHING_FILE,
        MONITORING_FILE,
        COMPOSE_FILE,
        KUBERNETES_FILE,
    ):
        text = templates.render(
            _TEMPLATES_DIR,
            name,
            escape_html=False,
            model_name=messages.MODEL_NAME,
            mount=_MOUNT,
            labels=labels,
            batch_sizes=messages.WARMUP_BATCH_SIZES,
            arguments=_ARGUMENTS,
            # A JSON string is also a YAML string.
            quoted_health_command=json.dumps(_HEALTH_COMMAND),
        )
        files.write_text(export_dir / name, text)


def docker_command(export_dir: pathlib.Path) -> str:
    """Returns the command line that serves an export directory on this machine."""
    arguments = " \\\n    ".join(_ARGUMENTS)
    return (
        "docker run --rm -p 8500:8500 -p 8501:8501 \\\n"
        f'  -v "{export_dir.resolve()}:{_MOUNT}:ro" \\\n'
        f"  --entrypoint tensorflow_model_server tensorflow/serving:latest \\\n"
        f"    --port=8500 --rest_api_port=8501 \\\n    {arguments}"
    )
