"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

import asyncio
import concurrent.futures
import contextlib
import errno
import functools
import importlib.util
import json
import logging
import os
import signal
import socket
import types
from collections.abc import Callable

import grpc
from absl import app, flags

from export import answers, protos, session, versions
from pipeline import console

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "export_dir", None, "Directory whose versions are served.", required=True
)
flags.DEFINE_string("host", "localhost", "Name or address to listen on.")
flags.DEFINE_integer("port", 8500, "Port of gRPC; 0 takes a free one.", 0, 65535)
flags.DEFINE_integer("rest_port", 8501, "Port of REST; 0 takes a free one.", 0, 65535)

_MAX_REQUEST_BYTES = 128 << 20
_MAX_MESSAGE_LENGTH = 2000  # gRPC sends it in a header, and these are limited to 8 kB
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_TO_FINISH = 10.0

# The codes that TensorFlow, gRPC and TensorFlow Serving share; all others are 500.
_HTTP_CODES = {1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400}
_HTTP_CODES |= {10: 409, 11: 400, 12: 501, 14: 503, 16: 401}
_INTERNAL = 13


def _guarded(answer: Callable, *arguments):
    """Runs in a thread; what nobody foresaw ends one request and not the server."""
    try:
        return answer(*arguments)
    except session.StatusError:
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {versions.one_line(error)}"
        print(f"a request failed: {line}", flush=True)
        raise session.StatusError(_INTERNAL, line) from error


def _make_grpc_server(run: Callable, served: versions.Versions) -> grpc.aio.Server:
    codes = {code.value[0]: code for code in grpc.StatusCode}

    def method(answer: Callable) -> Callable:
        async def handle(request, context):
            try:
                return await run(answer, served, request)
            except session.StatusError as error:
                code, message = codes[error.code], error.message
            await context.abort(code, message[:_MAX_MESSAGE_LENGTH])

        return handle

    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
            ("grpc.max_send_message_length", -1),
            # Otherwise two servers share a port and each gets some of the requests.
            ("grpc.so_reuseport", 0),
        ]
    )
    protos.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        types.SimpleNamespace(
            Predict=method(answers.predict),
            Classify=method(answers.classify),
            Regress=method(answers.regress),
            MultiInference=method(answers.multi_inference),
            GetModelMetadata=method(answers.metadata),
        ),
        server,
    )
    protos.model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        types.SimpleNamespace(
            GetModelStatus=method(answers.status),
            HandleReloadConfigRequest=method(answers.reload),
        ),
        server,
    )
    return server


async def _start_rest(
    run: Callable, served: versions.Versions, sockets: list[socket.socket]
) -> Callable:
    """Returns what stops it; to be awaited."""
    from aiohttp import web

    def reply(code: int, text: str) -> web.Response:
        return web.Response(status=code, text=text, content_type="application/json")

    def refuse(code: int, message: str) -> web.Response:
        return reply(code, json.dumps({"error": message}))

    async def handle(request: web.Request) -> web.Response:
        path = request.raw_path
        if not path.lower().startswith("/v1/"):
            return refuse(404, f"Paths begin with /v1/models. Received: {path}")
        try:
            body = await request.read()
            found = await run(answers.rest_answer, served, request.method, path, body)
        except web.HTTPRequestEntityTooLarge:
            return refuse(413, f"A request has at most {_MAX_REQUEST_BYTES} bytes.")
        except web.RequestPayloadError as error:
            return refuse(400, f"The body cannot be read: {versions.one_line(error)}")
        except session.StatusError as error:
            return refuse(_HTTP_CODES.get(error.code, 500), error.message)
        return reply(200, found)

    application = web.Application(client_max_size=_MAX_REQUEST_BYTES)
    application.router.add_route("*", "/{path:.*}", handle)
    # It logs a stack trace for a body that is cut or not compressed as it says; the
    # client has been told already.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    runner = web.AppRunner(
        application,
        access_log=None,
        # What a client that hangs up has asked for is dropped if it has not begun.
        handler_cancellation=True,
        shutdown_timeout=_SECONDS_TO_FINISH,
    )
    await runner.setup()
    for one in sockets:
        await web.SockSite(runner, one).start()
    return runner.cleanup


def _bind(host: str, port: int) -> list[socket.socket]:
    """One socket for each address of a host, all of the same port.

    Raises:
      OSError: a port cannot be had.
    """
    where = f"Cannot listen on {host}:{port}"
    bound = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            one = socket.socket(family, kind)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind((address[0], port, *address[2:]))
            except OSError as error:
                one.close()
                # "localhost" may name one of IPv6 where there is none.
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                continue
            bound.append(one)
            port = one.getsockname()[1]
    except OSError as error:
        raise OSError(
            f"{where}: {error.strerror}; --host, --port and --rest_port choose others"
        ) from error
    if not bound:
        raise OSError(f"{where}: not an address of this machine")
    return bound


async def serve(export_dir: str, *, host: str, port: int, rest_port: int) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is running.

    Raises:
      OSError: a port cannot be had.
      ValueError: models.config does not describe this model.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    served = versions.Versions(export_dir)
    rest_sockets = _bind(host, rest_port)
    # gRPC takes no socket of ours, and a port that it gets in part is an error to it no
    # more than to the one who has the other part; so we ask first.
    for probe in _bind(host, port):
        port = probe.getsockname()[1]
        probe.close()
    workers = concurrent.futures.ThreadPoolExecutor(4 * os.cpu_count())
    poller = concurrent.futures.ThreadPoolExecutor(1)
    run = functools.partial(loop.run_in_executor, workers, _guarded)
    with console.quiet_tensorflow_import():
        session.load_library()
    # The ports open when the first version is there, so that a client can wait for it.
    await loop.run_in_executor(poller, served.poll)
    grpc_server = _make_grpc_server(run, served)
    address = f"[{host}]" if ":" in host else host
    grpc_server.add_insecure_port(f"{address}:{port}")
    await grpc_server.start()
    stop_rest = await _start_rest(run, served, rest_sockets)
    print(
        f"serving {protos.MODEL_NAME}: gRPC on {address}:{port}, REST on "
        f"http://{address}:{rest_sockets[0].getsockname()[1]}/v1/models/"
        f"{protos.MODEL_NAME}",
        flush=True,
    )
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _SECONDS_BETWEEN_POLLS)
        if not stopping.is_set():
            await loop.run_in_executor(poller, served.poll)
    print("stopping: requests that are running are finished first", flush=True)
    await asyncio.gather(grpc_server.stop(_SECONDS_TO_FINISH), stop_rest())
    await loop.run_in_executor(poller, served.close)


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected words. Received: {' '.join(argv[1:])}")
    print(
        "export.serve is for development and tests; in production, run TensorFlow "
        "Serving on the same directory",
        flush=True,
    )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come as one line
    try:
        if importlib.util.find_spec("aiohttp") is None:
            raise ValueError("aiohttp is missing; pip install -e .[serve] brings it")
        if not os.path.isdir(FLAGS.export_dir):
            raise ValueError(
                "--export_dir is a directory that export.main has written. Received: "
                f"{FLAGS.export_dir}"
            )
        asyncio.run(
            serve(
                FLAGS.export_dir,
                host=FLAGS.host,
                port=FLAGS.port,
                rest_port=FLAGS.rest_port,
            )
        )
    except (ValueError, OSError, RuntimeError, KeyboardInterrupt) as error:
        console.fail("export.serve", error)


if __name__ == "__main__":
    app.run(main)
