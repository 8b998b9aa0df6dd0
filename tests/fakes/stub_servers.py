"""Runs small servers in the test's process, whose answers a test decides."""

import concurrent.futures
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np

from export.protocol import messages, tensors

# A reply of the REST API for one image.
GOOD_REST_REPLY = json.dumps(
    {
        "outputs": {
            "probabilities": [[0.25, 0.75]],
            "class_id": [1],
            "label": ["x"],
            "decode_ok": [True],
        }
    }
).encode()


class GrpcStub:
    """A gRPC server that answers Predict and records the requests; use it in a `with`.

    decide: (number of the call, images) -> grpc.StatusCode to fail with, or None.
    """

    def __init__(
        self,
        decide: Callable[
            [int, list[bytes]], grpc.StatusCode | None
        ] = lambda call, images: None,
    ):
        self._decide = decide
        self._lock = threading.Lock()
        self.batches: list[list[bytes]] = []
        self.remaining_seconds: list[float] = []
        self.running_calls = self.most_running_calls = 0

    def __enter__(self):
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        messages.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            self, self._server
        )
        self.address = f"localhost:{self._server.add_insecure_port('localhost:0')}"
        self._server.start()
        return self

    def __exit__(self, *exception):
        self._server.stop(None).wait()

    Classify = Regress = MultiInference = GetModelMetadata = None

    def Predict(self, request, context):  # noqa: N802
        images = list(request.inputs["image_bytes"].string_val)
        with self._lock:
            call = len(self.batches)
            self.batches.append(images)
            self.remaining_seconds.append(context.time_remaining())
            self.running_calls += 1
            self.most_running_calls = max(self.most_running_calls, self.running_calls)
        try:
            code = self._decide(call, images)
            if code:
                context.abort(code, "error of the stub")
        finally:
            with self._lock:
                self.running_calls -= 1
        response = messages.predict_pb2.PredictResponse()
        count = len(images)
        for key, array in {
            "probabilities": np.full([count, 2], 0.2, np.float32),
            "class_id": np.zeros([count], np.int64),
            "label": np.full([count], b"x", object),
            "decode_ok": np.ones([count], bool),
        }.items():
            response.outputs[key].CopyFrom(tensors.to_proto(array))
        return response


@contextlib.contextmanager
def rest_stub(
    replies: list[tuple[int, bytes]], *, delay_seconds: float = 0.0
) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Runs a REST server that gives these replies in order, and repeats the last one.

    Yields:
      HOST:PORT of the server, and the (path, body) of each request so far.
    """
    requests: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length", 0))
            requests.append((self.path, self.rfile.read(length)))
            status, body = replies[min(len(requests), len(replies)) - 1]
            time.sleep(delay_seconds)
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as stub:
        thread = threading.Thread(target=stub.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"localhost:{stub.server_port}", requests
        finally:
            stub.shutdown()
            thread.join()
