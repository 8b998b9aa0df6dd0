"""Requests whose client has hung up are not run."""

import asyncio
import concurrent.futures
import contextlib
import socket
import threading

import grpc
import pytest
from fakes.load import wait_until
from fakes.server_requests import make_predict_request

from export.local_server import servers
from export.protocol import messages
from export.protocol.status import Code, StatusError

PATH = f"/v1/models/{messages.MODEL_NAME}:predict"
BODY = b'{"instances": [""]}'


class BlockedVersions:
    """Stands for the versions: a request that comes here waits, and is then refused."""

    def __init__(self):
        self.started = 0
        self.go_on = threading.Event()

    @contextlib.contextmanager
    def use(self, spec):
        self.started += 1
        assert self.go_on.wait(60)
        raise StatusError(Code.NOT_FOUND, "not here")
        yield


@pytest.fixture
def versions():
    blocked = BlockedVersions()
    yield blocked
    blocked.go_on.set()


def test_grpc(versions):
    slots = threading.Semaphore(2)
    server = servers._make_grpc_server(versions, slots)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = messages.prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def send(count: int, **options):
            request = make_predict_request([b""])
            return [stub.Predict.future(request, **options) for _ in range(count)]

        running = send(2)
        wait_until(lambda: versions.started == 2)
        cancelled = send(5)
        late = send(5, timeout=1)
        waiting = send(3)
        wait_until(lambda: len(slots._cond._waiters) == 13)
        for future in cancelled:
            future.cancel()
        for future in late:
            assert future.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        versions.go_on.set()
        for future in (*running, *waiting):
            assert future.code() == grpc.StatusCode.NOT_FOUND
    server.stop(None).wait()
    assert versions.started == 2 + 3


def _send_by_rest(port: int) -> socket.socket:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(head.encode() + BODY)
    return connection


def test_rest(versions):
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(16))
        slots = threading.Semaphore(2)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        stop = await servers._start_rest(versions, listener, slots)

        async def wait_for(holds) -> None:
            for _ in range(1000):
                if holds():
                    return
                await asyncio.sleep(0.02)
            raise AssertionError

        running = [_send_by_rest(port) for _ in range(2)]
        await wait_for(lambda: versions.started == 2)
        others = [_send_by_rest(port) for _ in range(8)]
        await wait_for(lambda: len(slots._cond._waiters) == 8)
        for connection in others[3:]:
            connection.close()
        await asyncio.sleep(0.2)
        versions.go_on.set()
        for connection in (*running, *others[:3]):
            await wait_for(lambda: versions.started == 2 + 3)
            line = await loop.run_in_executor(pool, connection.recv, 12)
            assert line == b"HTTP/1.1 404"
            connection.close()
        await stop()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asyncio.run(serve())
    assert versions.started == 2 + 3
