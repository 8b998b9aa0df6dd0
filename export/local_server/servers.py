"""Runs the gRPC server and the REST server of one export directory."""

import asyncio
import concurrent.futures
import contextlib
import functools
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from export.c_api.library import load_library
from export.local_server import handlers
from export.local_server.log import log, to_one_line
from export.local_server.rest_json import answer_rest
from export.local_server.versions import Versions
from export.protocol import messages
from export.protocol.status import HTTP_STATUS_OF_CODE, Code, StatusError
from pipeline.system import console

_MAX_REQUEST_BYTES = 128 << 20
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_TO_FINISH = 10.0
# A thread also waits while a request arrives, so there are more threads than _RUNNING.
_THREADS = 32
# Number of requests that run at the same time. With more, none is answered sooner, and
# each holds its images in memory. A waiting request is dropped if its client hangs up.
_RUNNING = max(4, os.cpu_count() or 1)

Answer = TypeVar("Answer")


def _guard(answer: Callable[..., Answer], *arguments: object) -> Answer:
    """Calls a handler; turns every error into a StatusError, which the client gets."""
    try:
        return answer(*arguments)
    except StatusError:
        raise
    except (ValueError, RecursionError, OverflowError) as error:
        raise StatusError(Code.INVALID_ARGUMENT, to_one_line(error)) from error
    except Exception as error:
        line = f"{type(error).__name__}: {to_one_line(error)}"
        log(f"a request failed: {line}")
        raise StatusError(Code.INTERNAL, line) from error


def _run_if_wanted(
    slots: threading.Semaphore,
    is_wanted: Callable[[], bool],
    answer: Callable[..., Answer],
    *arguments: object,
) -> Answer:
    """Waits for a slot, then runs the request if its client still waits.

    Raises:
      StatusError: the client has hung up, or the handler failed; see _guard.
    """
    with slots:
        if not is_wanted():
            raise StatusError(Code.CANCELLED, "The client has hung up")
        return _guard(answer, *arguments)


def _make_method(
    answer: Callable[[Versions, Any], Any],
    versions: Versions,
    slots: threading.Semaphore | None = None,
) -> Any:
    """Makes a method of a gRPC service from a handler.

    slots: limit the requests that run at the same time; None for a method that runs no
      model.
    """
    codes = {code.value[0]: code for code in grpc.StatusCode}

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            if not request.HasField("model_spec"):
                raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
            if slots is None:
                return _guard(answer, versions, request)
            return _run_if_wanted(slots, context.is_active, answer, versions, request)
        except StatusError as error:
            context.abort(codes[error.code], to_one_line(error))

    return handle


def _make_grpc_server(versions: Versions, slots: threading.Semaphore) -> grpc.Server:
    """Makes the gRPC server with its two services; it has no port yet."""
    options = {
        "grpc.max_receive_message_length": _MAX_REQUEST_BYTES,
        # Otherwise two servers could share a port, and each would get some requests.
        "grpc.so_reuseport": 0,
    }
    # gRPC would log a stack trace for a method that is not implemented.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    threads = concurrent.futures.ThreadPoolExecutor(_THREADS)
    server = grpc.server(threads, options=list(options.items()))
    # A method that is not replaced here answers UNIMPLEMENTED.
    prediction = messages.prediction_service_pb2_grpc.PredictionServiceServicer()
    prediction.Predict = _make_method(handlers.predict, versions, slots)
    prediction.Classify = _make_method(handlers.classify, versions, slots)
    prediction.Regress = _make_method(handlers.refuse_to_regress, versions)
    prediction.GetModelMetadata = _make_method(handlers.get_metadata, versions)
    messages.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        prediction, server
    )
    model = messages.model_service_pb2_grpc.ModelServiceServicer()
    model.GetModelStatus = _make_method(handlers.get_status, versions)
    messages.model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, server)
    return server


async def _run_in_thread(slots: threading.Semaphore, answer: Callable[[], str]) -> str:
    """Calls _run_if_wanted in a thread; its cancellation counts as hanging up."""
    has_hung_up = threading.Event()
    try:
        return await asyncio.to_thread(
            _run_if_wanted, slots, lambda: not has_hung_up.is_set(), answer
        )
    except asyncio.CancelledError:
        has_hung_up.set()
        raise


async def _start_rest(
    versions: Versions, listener: socket.socket, slots: threading.Semaphore
) -> Callable[[], Awaitable[None]]:
    """Starts the REST server.

    Returns:
      A function that stops the server after the bodies that are arriving are complete.
    """
    from aiohttp import web

    arriving = 0

    def make_response(text: str, status: int) -> web.Response:
        # As bytes: TensorFlow Serving names no charset.
        body = text.encode()
        return web.Response(body=body, content_type="application/json", status=status)

    async def handle(request: web.Request) -> web.Response:
        nonlocal arriving
        try:
            arriving += 1
            try:
                body = await request.read()
            finally:
                arriving -= 1
            encoding = request.headers.get("Content-Encoding", "")
            target = request.method, request.raw_path
            answer = functools.partial(answer_rest, versions, *target, encoding, body)
            if request.method != "POST":  # Only a POST runs a model.
                return make_response(await asyncio.to_thread(_guard, answer), 200)
            text = await _run_in_thread(slots, answer)
            return make_response(text, 200)
        except web.HTTPRequestEntityTooLarge:
            code, message = 413, f"A request has at most {_MAX_REQUEST_BYTES} bytes."
        except web.RequestPayloadError as error:
            code, message = 400, to_one_line(error)
        except StatusError as error:
            code, message = HTTP_STATUS_OF_CODE.get(error.code, 500), to_one_line(error)
        return make_response(json.dumps({"error": message}), code)

    application = web.Application(client_max_size=_MAX_REQUEST_BYTES)
    application.router.add_route("*", r"/{path:[\s\S]*}", handle)
    # aiohttp would log a stack trace for a body that is cut off.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    runner = web.AppRunner(
        application,
        access_log=None,
        # rest_bodies.py decompresses: TensorFlow Serving knows only gzip.
        auto_decompress=False,
        # Cancels the request of a client that hangs up.
        handler_cancellation=True,
        shutdown_timeout=_SECONDS_TO_FINISH,
    )
    await runner.setup()
    site = web.SockSite(runner, listener)
    await site.start()

    async def stop() -> None:
        await site.stop()
        deadline = time.monotonic() + _SECONDS_TO_FINISH
        while arriving and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await runner.cleanup()

    return stop


def _bind_ports(
    grpc_server: grpc.Server, host: str, port: int, rest_port: int
) -> tuple[int, socket.socket]:
    """Returns the port of gRPC and the socket of REST.

    Raises:
      OSError: a port is in use, or the host is not an address of this machine.
    """
    try:
        with console.quiet_tensorflow_import():  # It also hides the log of gRPC.
            load_library()
            grpc_port = grpc_server.add_insecure_port(f"{_bracket(host)}:{port}")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return grpc_port, socket.create_server((host, rest_port), family=family)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{error}; --host, --port and --rest_port choose others. Received: "
            f"--host={host} --port={port} --rest_port={rest_port}"
        ) from error


def _bracket(host: str) -> str:
    """Returns a host as it is written before a port: [::1] for ::1."""
    return f"[{host}]" if ":" in host else host


async def _poll_until(stopping: asyncio.Event, versions: Versions) -> None:
    """Looks for new versions every second; logs a problem only when it is new."""
    problem = None
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _SECONDS_BETWEEN_POLLS)
            break
        last_problem, problem = problem, None
        try:
            await asyncio.to_thread(versions.poll)
        except (ValueError, OSError) as error:
            problem = f"{to_one_line(error)}; all stays as it is"
            if problem != last_problem:
                log(problem)


async def serve(export_dir: str, *, host: str, port: int, rest_port: int) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests that are running.

    Raises:
      OSError: a port is in use, or the host is not an address of this machine.
      ValueError: models.config does not describe this model.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    versions = Versions(export_dir)
    slots = threading.Semaphore(_RUNNING)
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    asyncio.get_running_loop().set_default_executor(pool)
    grpc_server = _make_grpc_server(versions, slots)
    grpc_port, rest_socket = _bind_ports(grpc_server, host, port, rest_port)
    # Both servers answer only after the first version is loaded, so that a client can
    # wait for it.
    await asyncio.to_thread(versions.poll)
    stop_rest = await _start_rest(versions, rest_socket, slots)
    grpc_server.start()
    address = _bracket(host)
    log(
        f"serving {messages.MODEL_NAME}: gRPC on {address}:{grpc_port}, REST on http://"
        f"{address}:{rest_socket.getsockname()[1]}/v1/models/{messages.MODEL_NAME}"
    )
    await _poll_until(stopping, versions)
    log("stopping: requests that are running are finished first")
    stopped = grpc_server.stop(_SECONDS_TO_FINISH)
    await asyncio.gather(stop_rest(), asyncio.to_thread(stopped.wait))
    versions.close()
