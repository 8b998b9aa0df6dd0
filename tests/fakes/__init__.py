"""Shares test code between test files.

images.py: draws small photographs and writes them to disk.
models.py: builds and trains the smallest real classifier.
shallow_net.py: a backbone of few layers, for commands in forks.
finished_runs.py: writes the files of a finished run that nobody trained.
features.py: computes features of the frozen prefix.
processes.py: runs commands and clusters in processes of their own, and kills them.
train_only.py: trainer.main without the report and the export.
fork_server.py: the process that imports TensorFlow once and forks for each command.
serving.py: writes servable models and runs the local server.
server_requests.py: builds requests for a server and sends them.
browser.py: opens pages in Chromium, presses keys.
load.py: sends requests all the time, while a test changes what a server serves.
stub_servers.py: runs servers in the process of the test, whose answers it decides.
"""

from fakes.finished_runs import write_finished_run
from fakes.images import CLASSES, colour_jpeg, draw, write_folder
from fakes.models import (
    TINY_MODEL_FLAGS,
    make_classifier,
    make_postprocessing,
    one_device_runtime,
    restore_classifier,
    train,
)
from fakes.processes import (
    REPOSITORY,
    TRAIN_ONLY,
    Forked,
    Kill,
    run,
    run_fork,
    run_forked,
    run_workers,
    start_workers,
)
from fakes.serving import COLOURS, Server, publish, write_servable
from fakes.shallow_net import SHALLOW_MODEL_FLAGS

__all__ = [
    "CLASSES",
    "COLOURS",
    "REPOSITORY",
    "SHALLOW_MODEL_FLAGS",
    "TINY_MODEL_FLAGS",
    "TRAIN_ONLY",
    "Forked",
    "Kill",
    "Server",
    "colour_jpeg",
    "draw",
    "make_classifier",
    "make_postprocessing",
    "one_device_runtime",
    "publish",
    "restore_classifier",
    "run",
    "run_fork",
    "run_forked",
    "run_workers",
    "start_workers",
    "train",
    "write_finished_run",
    "write_folder",
    "write_servable",
]
