"""Sends requests to a server all the time, while a test changes what it serves."""

import concurrent.futures
import threading
import time
from collections.abc import Callable

import grpc

from export.protocol import messages
from fakes.server_requests import (
    RED,
    call_grpc,
    call_rest,
    list_labels,
    make_predict_request,
    make_status_request,
    open_channel,
    to_base64,
)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Load:
    """Clients that send one request after another; use it in a `with`.

    pause_seconds: after each request, where what the test waits for takes long.
    answers: the number of replies for each (version, label).
    errors: of the replies that are errors.
    """

    def __init__(
        self,
        server,
        *,
        threads: int = 3,
        version_label: str = "",
        pause_seconds: float = 0.0,
    ):
        self._server = server
        self._spec = f"version_label: '{version_label}'" if version_label else ""
        self._path = f"/labels/{version_label}" if version_label else ""
        self._stop = threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._threads = threads
        self._pause_seconds = pause_seconds
        self.answers: dict[tuple[int, str], int] = {}
        self.errors: list[str] = []

    def __enter__(self):
        for index in range(self._threads):
            self._pool.submit(self._ask_by_rest if index == 0 else self._ask_by_grpc)
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._pool.shutdown()

    def wait_for(self, *keys) -> None:
        """Waits until each of these answers has been given."""
        wait_until(lambda: set(keys) <= self.answers.keys())

    def _count(self, key) -> None:
        self.answers[key] = self.answers.get(key, 0) + 1

    def _ask_by_grpc(self) -> None:
        with open_channel(self._server) as channel:
            stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._stop.wait(self._pause_seconds):
                try:
                    request = make_predict_request([RED] * 4, self._spec)
                    response = stub.Predict(request, timeout=60)
                    key = response.model_spec.version.value, list_labels(response)[3]
                    self._count(key)
                except grpc.RpcError as error:
                    self.errors.append(f"{error.code()} {error.details()}")

    def _ask_by_rest(self) -> None:
        body = {"instances": [to_base64(RED)]}
        while not self._stop.wait(self._pause_seconds):
            status, reply = call_rest(
                self._server, "POST", f"{self._path}:predict", body
            )
            if status == 200:
                self._count(("REST", reply["predictions"][0]["label"]))
            else:
                self.errors.append(reply["error"])


def list_states(server) -> dict[int, str]:
    """Returns the name of the state of each version."""
    reply = call_grpc(server, "GetModelStatus", make_status_request())
    return {
        version.version: type(version).State.Name(version.state)
        for version in reply.model_version_status
    }
