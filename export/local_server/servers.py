"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable

import grpc

from export.c_api.library import load_library
from export.local_server import handlers
from export.local_server.log import one_line, say
from export.local_server.rest_json import (
    answer_rest,
)
from export.local_server.versions import Versions
from export.protocol import messages
from export.protocol.status import HTTP_STATUS_OF_CODE, Code, StatusError
from pipeline.system import console

_MAX_REQUEST_BYTES = 128 << 20
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_TO_FINISH = 10.0
_THREADS = 32  # each waits for a request to arrive whole, too


# The protocols.


def _guard(answer: Callable, *arguments: object) -> object:
    """Every error is a StatusError: it ends a request and not the server."""
    try:
        return answer(*arguments)
    except StatusError:
        raise
    except (ValueError, RecursionError, OverflowError) as error:
        raise StatusError(Code.INVALID_ARGUMENT, one_line(error)) from error
    except Exception as error:
        line = f"{type(error).__name__}: {one_line(error)}"
        say(f"a request failed: {line}")
        raise StatusError(Code.INTERNAL, line) from error


def _make_grpc_server(versions: Versions) -> grpc.Server:
    codes = {code.value[0]: code for code in grpc.StatusCode}

    def method(answer: Callable) -> Callable:
        def handle(request, context):
            try:
                if not request.model_spec.name:
                    raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec's name")
                return _guard(answer, versions, request)
            except StatusError as error:
                context.abort(codes[error.code], one_line(error))

        return handle

    options = {
        "grpc.max_receive_message_length": _MAX_REQUEST_BYTES,
        # Otherwise two servers share a port and each gets some of the requests.
        "grpc.so_reuseport": 0,
    }
    # It logs a stack trace for a method that is not implemented.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    threads = concurrent.futures.ThreadPoolExecutor(_THREADS)
    server = grpc.server(threads, options=list(options.items()))
    # What is not replaced is answered with UNIMPLEMENTED.
    service = messages.prediction_service_pb2_grpc.PredictionServiceServicer()
    service.Predict, service.Classify = (
        method(handlers.predict),
        method(handlers.classify),
    )
    service.GetModelMetadata = method(handlers.get_metadata)
    messages.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        service, server
    )
    models = messages.model_service_pb2_grpc.ModelServiceServicer()
    models.GetModelStatus = method(handlers.get_status)
    messages.model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    return server


async def _start_rest(versions: Versions, listener: socket.socket):
    """Returns what stops it, once the bodies that are on their way have arrived."""
    from aiohttp import web

    arriving = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal arriving
        try:
            arriving += 1
            try:
                body = await request.read()
            finally:
                arriving -= 1
            arguments = (request.method, request.rel_url.raw_path_qs, body)
            found = await asyncio.to_thread(_guard, answer_rest, versions, *arguments)
            return web.Response(text=found, content_type="application/json")
        except web.HTTPRequestEntityTooLarge:
            code, message = 413, f"A request has at most {_MAX_REQUEST_BYTES} bytes."
        except web.RequestPayloadError as error:
            code, message = 400, one_line(error)
        except StatusError as error:
            code, message = HTTP_STATUS_OF_CODE.get(error.code, 500), one_line(error)
        return web.json_response({"error": message}, status=code)

    application = web.Application(client_max_size=_MAX_REQUEST_BYTES)
    application.router.add_route("*", "/{path:.*}", handle)
    # A body that is cut is the client's affair, and no stack trace of ours.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    runner = web.AppRunner(
        application,
        access_log=None,
        # What a client that hangs up has asked for is dropped if it has not begun.
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


async def serve(export_dir: str, *, host: str, port: int, rest_port: int) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is running.

    Raises:
      OSError: a port cannot be had.
      ValueError: models.config does not describe this model.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    versions = Versions(export_dir)
    grpc_server = _make_grpc_server(versions)
    address = f"[{host}]" if ":" in host else host
    try:
        with console.quiet_tensorflow_import():  # gRPC writes of a port, too
            load_library()
            grpc_port = grpc_server.add_insecure_port(f"{address}:{port}")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        rest_socket = socket.create_server((host, rest_port), family=family)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{error}; --host, --port and --rest_port choose others. Received: "
            f"--host={host} --port={port} --rest_port={rest_port}"
        ) from error
    # Both answer when the first version is there, so that a client can wait for it.
    await asyncio.to_thread(versions.poll)
    stop_rest = await _start_rest(versions, rest_socket)
    grpc_server.start()
    say(
        f"serving {messages.MODEL_NAME}: gRPC on {address}:{grpc_port}, REST on http://"
        f"{address}:{rest_socket.getsockname()[1]}/v1/models/{messages.MODEL_NAME}"
    )
    complaint = None
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _SECONDS_BETWEEN_POLLS)
            break
        before, complaint = complaint, None
        try:
            await asyncio.to_thread(versions.poll)
        except (ValueError, OSError) as error:
            complaint = f"{one_line(error)}; all stays as it is"
            if complaint != before:
                say(complaint)
    say("stopping: requests that are running are finished first")
    stopped = grpc_server.stop(_SECONDS_TO_FINISH)
    await asyncio.gather(stop_rest(), asyncio.to_thread(stopped.wait))
    versions.close()
