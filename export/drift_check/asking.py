"""Opens a version to ask: in this process, or through a server."""

import contextlib
import functools
import os
import pathlib
import re
import threading
from collections.abc import Iterator, Mapping

import grpc
import numpy as np

from export.c_api.session import Session
from export.drift_check.answers import Ask
from export.protocol.status import Code, StatusError
from export.remote import classify, transports
from pipeline.system import console

_SECONDS = 60.0


@contextlib.contextmanager
def open_version(version_dir: pathlib.Path) -> Iterator[Ask]:
    """Loads a version into this process, on the CPU.

    Yields:
      A function that asks the version.

    Raises:
      OSError: TensorFlow's C library is missing.
      ValueError: the version does not load, or cannot answer.
    """
    # A server on this machine may use all memory of the accelerator.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    try:
        with console.quiet_tensorflow_import():
            session = Session(str(version_dir))
    except StatusError as error:
        raise ValueError(
            f"The version {version_dir} does not load: {error.message}. Export the run "
            "again with python -m export.main."
        ) from error

    def ask(signature: str, images: list[bytes]) -> Mapping[str, np.ndarray]:
        try:
            return session.run(signature, {"image_bytes": np.array(images, object)})
        except StatusError as error:
            raise ValueError(
                f"The version {version_dir} does not answer: {error.message}. Export "
                "the run again with python -m export.main."
            ) from error

    try:
        yield ask
    finally:
        session.close()


@contextlib.contextmanager
def open_server(address: str, export_dir: pathlib.Path) -> Iterator[tuple[Ask, int]]:
    """Connects to a server over gRPC.

    Args:
      address: HOST:PORT.
      export_dir: directory of the versions that the server runs.

    Yields:
      A function that asks the server, and the number of its newest version, which
      answers.

    Raises:
      ValueError: the server does not answer, or its version is not in export_dir.
    """
    match = re.fullmatch(r"[^/\s]+:(\d{1,5})", address)
    if not match or int(match[1]) > 65535:
        raise ValueError(f"--server must be HOST:PORT. Received: --server={address}")
    stop = threading.Event()
    channel = grpc.insecure_channel(address, options=transports.CHANNEL_OPTIONS)

    def ask(signature: str, images: list[bytes]) -> Mapping[str, np.ndarray]:
        predict = functools.partial(
            transports.predict_arrays_by_grpc,
            channel,
            signature=signature,
            version=version,
        )
        try:
            return classify.call_with_retries(predict, images, _SECONDS, stop)
        except StatusError as error:
            raise _explain(error, address) from error

    try:
        # Without a version in the request, the newest one answers.
        metadata = transports.get_metadata_by_grpc(channel, _SECONDS)
        version = int(metadata["model_spec"]["version"])
        if not (export_dir / str(version)).is_dir():
            raise ValueError(
                f"The server {address} runs version {version}, whose reference is not "
                f"here. Received: --export_dir={export_dir}, without a version "
                f"{version}; name the directory that the server serves."
            )
        yield ask, version
    except StatusError as error:
        raise _explain(error, address) from error
    finally:
        stop.set()
        channel.close()


def _explain(error: StatusError, address: str) -> ValueError:
    advice = "; is the server up, and is this its port of gRPC?"
    return ValueError(
        f"{address} (gRPC): {error.message}"
        + (advice if error.code == Code.UNAVAILABLE else "")
    )
