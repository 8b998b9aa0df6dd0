"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import pathlib
import re
import signal
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator

import grpc
import numpy as np
from absl import app, flags
from google.protobuf import text_format
from google.protobuf.message import Message

from export import protos, session
from export.session import StatusError
from pipeline import console

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "export_dir", None, "Directory whose versions are served.", required=True
)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
flags.DEFINE_integer("port", 8500, "Port of gRPC; 0 takes a free one.", 0, 65535)
flags.DEFINE_integer("rest_port", 8501, "Port of REST; 0 takes a free one.", 0, 65535)

_INVALID_ARGUMENT, _NOT_FOUND, _INTERNAL = 3, 5, 13
# The codes that TensorFlow, gRPC and TensorFlow Serving share; all others are 500.
_HTTP_CODES = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503}

_MAX_REQUEST_BYTES = 128 << 20
_MAX_SHOWN = 400  # TensorFlow's messages may hold a graph, a body a photograph
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_TO_FINISH = 10.0
_THREADS = 32  # each waits for a request to arrive whole, too

_PATH = re.compile(
    r"(?i:/v1/models/([^/:]+)(?:/versions/(\d{1,19})|/labels/([^/:]+))?)"
    r"(/metadata|:predict|:classify)?"
)


def _say(line: str) -> None:
    print(line, flush=True)


def _one_line(value: object) -> str:
    line = " ".join(str(value)[: 4 * _MAX_SHOWN].split()) or type(value).__name__
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."


@dataclasses.dataclass
class _Version:
    number: int
    session: session.Session
    requests: int = 0
    leaving: bool = False


class Versions:
    """The versions of an export directory, as its models.config asks for them.

    Requests come from any thread; one at a time calls poll() or close().
    """

    def __init__(self, export_dir: str):
        self._dir = pathlib.Path(export_dir)
        self._lock = threading.Lock()
        self._serving: dict[int, _Version] = {}
        self._labels: dict[str, int] = {}
        self._states: dict[int, Message] = {}
        self._failed: dict[int, list] = {}  # version -> its files when it was tried
        self._has_config = self._waits = False

    @contextlib.contextmanager
    def use(self, spec: Message) -> Iterator[_Version]:
        """The version that a request asks for, which stays loaded meanwhile.

        Raises:
          StatusError: there is none.
        """
        with self._lock:
            version = self._find(spec)
            version.requests += 1
        try:
            yield version
        finally:
            with self._lock:
                version.requests -= 1
                unused = version.leaving and not version.requests
            if unused:
                self._unload(version)

    def _find(self, spec: Message) -> _Version:
        number, asked = max(self._serving, default=None), "the newest version"
        if spec.WhichOneof("version_choice") == "version":
            number = asked = spec.version.value
        elif spec.version_label:
            number, asked = self._labels.get(spec.version_label), spec.version_label
            if number is None or spec.name != protos.MODEL_NAME:
                raise StatusError(
                    _INVALID_ARGUMENT, f"Unrecognized servable version label: {asked}"
                )
        if spec.name != protos.MODEL_NAME or number not in self._serving:
            raise StatusError(
                _NOT_FOUND, f"Servable not found for request: {spec.name}, {asked}"
            )
        return self._serving[number]

    def states(self, spec: Message) -> list[Message]:
        """The state of one version, or of all that there ever were, newest first.

        Raises:
          StatusError: there is no such model or version.
        """
        number = spec.version.value if spec.HasField("version") else None
        with self._lock:
            found = sorted(self._states.items(), reverse=True)
        found = [state for known, state in found if number in (None, known)]
        if spec.name != protos.MODEL_NAME or not found:
            which = "any versions" if number is None else f"version {number}"
            raise StatusError(
                _NOT_FOUND, f"Could not find {which} of model {spec.name}"
            )
        return found

    def poll(self) -> None:
        """Loads what is new, moves the labels to it and retires what is not wanted.

        Raises:
          ValueError: models.config does not describe this model; nothing is changed.
        """
        config = self._read_config()
        wanted = self._list_wanted(config.model_version_policy)
        self._failed = {k: v for k, v in self._failed.items() if k in wanted}
        for number in sorted(wanted.keys() - self._serving, reverse=True):
            self._load(number, wanted[number])
        with self._lock:
            for label, number in config.version_labels.items():
                # It moves when the version it moves to is there.
                if number in self._serving or label not in self._labels:
                    self._labels[label] = number
            for label in self._labels.keys() - config.version_labels:
                del self._labels[label]
        stays = set(wanted)
        if wanted and not stays & self._serving.keys():
            # The last one leaves when another can follow it.
            stays = {max(self._serving, default=None)}
        self._retire(self._serving.keys() - stays)
        if not wanted and not self._waits:
            _say(f"no version to serve in {self._dir}; waiting for one")
        self._waits = not wanted

    def close(self) -> None:
        """Unloads every version as soon as no request runs on it."""
        self._retire(list(self._serving))

    def _read_config(self) -> Message:
        path = self._dir / protos.MODELS_FILE
        found = protos.model_server_config_pb2.ModelServerConfig()
        if not path.exists() and not self._has_config:
            return protos.model_server_config_pb2.ModelConfig()
        self._has_config = True
        try:
            text_format.Parse(path.read_text(), found)
        except (text_format.ParseError, OSError) as error:
            raise ValueError(f"{path}: {error}") from error
        names = [model.name for model in found.model_config_list.config]
        if names != [protos.MODEL_NAME]:
            raise ValueError(
                f"{path} describes one model, {protos.MODEL_NAME}. Received: {names}"
            )
        return found.model_config_list.config[0]

    def _list_wanted(self, policy: Message) -> dict[int, pathlib.Path]:
        found = {
            int(path.name): path
            for path in self._dir.iterdir()
            if re.fullmatch("[0-9]{1,19}", path.name) and int(path.name) < 1 << 63
        }
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return found
        numbers = sorted(found)[-max(policy.latest.num_versions, 1) :]
        if choice == "specific":
            numbers = found.keys() & policy.specific.versions
        return {number: found[number] for number in numbers}

    def _load(self, number: int, path: pathlib.Path) -> None:
        content = _list_files(path)
        if self._failed.get(number) == content:
            return
        self._set_state(number, "LOADING")
        start, loaded, count = time.monotonic(), None, 0
        try:
            loaded = session.Session(str(path))
            if (path / session.WARMUP_FILE).exists():
                count = session.replay_warmup(loaded, str(path))
        # Whatever a damaged model raises, the other versions go on serving.
        except Exception as error:
            if loaded:
                loaded.close()
            self._failed[number] = content
            line = _one_line(error)
            self._set_state(number, "END", getattr(error, "code", _INTERNAL), line)
            _say(f"version {number} is not served: {line}")
            return
        with self._lock:
            self._serving[number] = _Version(number, loaded)
        self._set_state(number, "AVAILABLE")
        seconds = time.monotonic() - start
        _say(
            f"version {number} loaded in {seconds:.1f} s, {count} requests of its "
            "warm-up answered"
        )

    def _retire(self, numbers: Iterable[int]) -> None:
        for number in sorted(numbers):
            self._set_state(number, "UNLOADING")
            with self._lock:
                version = self._serving.pop(number)
                version.leaving = True
                unused = not version.requests
            if unused:
                self._unload(version)

    def _unload(self, version: _Version) -> None:
        version.session.close()
        self._set_state(version.number, "END")
        _say(f"version {version.number} unloaded")

    def _set_state(
        self, number: int, state: str, code: int = 0, message: str = ""
    ) -> None:
        status = {"error_code": code, "error_message": message}
        with self._lock:
            if state == "END" and number in self._serving:  # it has come back meanwhile
                return
            self._states[number] = protos.get_model_status_pb2.ModelVersionStatus(
                version=number, state=state, status=status
            )


def _list_files(path: pathlib.Path) -> list:
    """Differs when a file of the version does; nothing is read."""
    found = []
    for file in sorted(path.rglob("*")):
        with contextlib.suppress(OSError):  # it may go while we look
            found.append((file, file.stat().st_size, file.stat().st_mtime_ns))
    return found


# What a request is answered; a ValueError is an INVALID_ARGUMENT.


def predict(versions: Versions, request: Message) -> Message:
    """PredictRequest -> PredictResponse; any signature will do."""
    response = protos.predict_pb2.PredictResponse()
    with versions.use(request.model_spec) as version:
        response.model_spec.CopyFrom(_answering(request.model_spec, version))
        inputs = {key: protos.to_array(each) for key, each in request.inputs.items()}
        outputs = version.session.run(response.model_spec.signature_name, inputs)
    wanted = list(request.output_filter) or list(outputs)
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(outputs):
        raise ValueError(
            f"output_filter names outputs, each once, of {', '.join(sorted(outputs))}. "
            f"Received: {', '.join(request.output_filter)}"
        )
    for key in wanted:
        array, tensor = outputs[key], response.outputs[key]
        # Into the fields that clients read, such as float_val; not tensor_content.
        tensor.dtype, field = protos.DTYPES[array.dtype.name]
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        getattr(tensor, field)[:] = array.ravel().tolist()
    return response


def _answering(spec: Message, version: _Version) -> Message:
    name = spec.signature_name or "serving_default"
    answering = protos.model_pb2.ModelSpec(name=spec.name, signature_name=name)
    answering.version.value = version.number
    return answering


def classify(versions: Versions, request: Message) -> Message:
    """ClassificationRequest -> ClassificationResponse, by a signature made for it."""
    examples, more = request.input.example_list, request.input.example_list_with_context
    encoded = [each.SerializeToString() for each in examples.examples]
    # Two messages one after the other are one message, merged.
    context = more.context.SerializeToString()
    encoded += [context + each.SerializeToString() for each in more.examples]
    if not encoded:
        raise ValueError("Input is empty.")
    response = protos.classification_pb2.ClassificationResponse()
    with versions.use(request.model_spec) as version:
        response.model_spec.CopyFrom(_answering(request.model_spec, version))
        name = response.model_spec.signature_name
        declared = version.session.signatures.get(name)
        if declared is None or declared.method_name != session.CLASSIFY_METHOD:
            raise ValueError(
                "Classify needs a signature whose method is "
                f"{session.CLASSIFY_METHOD}. Received: {name}"
            )
        outputs = version.session.run(name, {"inputs": np.array(encoded, object)})
    for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
        classes = response.result.classifications.add().classes
        for label, score in zip(labels, scores, strict=True):
            classes.add(label=label.decode(), score=score)
    return response


def metadata(versions: Versions, request: Message) -> Message:
    """GetModelMetadataRequest -> its response, with the field signature_def."""
    if set(request.metadata_field) != {"signature_def"}:
        raise ValueError(
            f"metadata_field is signature_def. Received: {[*request.metadata_field]}"
        )
    response = protos.get_model_metadata_pb2.GetModelMetadataResponse()
    found = protos.get_model_metadata_pb2.SignatureDefMap()
    with versions.use(request.model_spec) as version:
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        for name, declared in version.session.signatures.items():
            found.signature_def[name].CopyFrom(declared)
    response.metadata["signature_def"].Pack(found)
    return response


def status(versions: Versions, request: Message) -> Message:
    """GetModelStatusRequest -> its response."""
    states = versions.states(request.model_spec)
    return protos.get_model_status_pb2.GetModelStatusResponse(
        model_version_status=states
    )


def answer_rest(versions: Versions, verb: str, path: str, body: bytes) -> str:
    """A REST request -> JSON."""
    match = _PATH.fullmatch(path)
    action = match and (match[4] or "")
    if not match or verb != ("POST" if action.startswith(":") else "GET"):
        code = _INVALID_ARGUMENT if path.lower().startswith("/v1/") else _NOT_FOUND
        raise StatusError(code, f"Malformed request: {verb} {path}")
    name, label = (urllib.parse.unquote(part or "") for part in match.group(1, 3))
    spec = protos.model_pb2.ModelSpec(name=name, version_label=label)
    if match[2]:
        spec.version.value = int(match[2])
    if not action:
        request = protos.get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return json.dumps(protos.to_dict(status(versions, request)))
    if action == "/metadata":
        request = protos.get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        return json.dumps(protos.metadata_to_dict(metadata(versions, request)))
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON parse error: {error}") from error
    if not isinstance(payload, dict):
        raise ValueError(f"The body is a JSON object. Received: {_one_line(payload)}")
    spec.signature_name = str(payload.get("signature_name", ""))
    answer = _classify_json if action == ":classify" else _predict_json
    return json.dumps(answer(versions, spec, payload))


def _predict_json(versions: Versions, spec: Message, payload: dict) -> dict:
    with versions.use(spec) as version:
        if ("instances" in payload) == ("inputs" in payload):
            raise ValueError(
                "A body has one of instances and inputs. Received: "
                f"{', '.join(payload) or 'an empty object'}"
            )
        by_row = "instances" in payload
        given = payload["instances" if by_row else "inputs"]
        name = spec.signature_name or "serving_default"
        if name not in version.session.signatures:
            raise ValueError(f'Serving signature name: "{name}" not found.')
        # Every signature of an export has one input, which may go without its name.
        ((key, info),) = version.session.signatures[name].inputs.items()
        if not by_row:
            values = _unname(given, key)
        elif not isinstance(given, list) or not given:
            raise ValueError(f"instances is a list. Received: {_one_line(given)}")
        elif {frozenset(row) if _is_named(row) else key for row in given} not in (
            {key},
            {frozenset([key])},
        ):
            raise ValueError(f"Either all rows name the input {key}, or none does.")
        else:
            values = [_unname(row, key) for row in given]
        array = to_array(values, protos.NUMPY_OF[info.dtype])
        outputs = version.session.run(name, {key: array})
    columns = {key: to_json(array) for key, array in outputs.items()}
    if not by_row:
        return {"outputs": columns}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _is_named(value: object) -> bool:
    """Whether it is {name: value}; a dictionary b64 is a value itself."""
    return isinstance(value, dict) and not _is_base64(value)


def _unname(value: object, name: str) -> object:
    """{name: value} -> value."""
    if not _is_named(value):
        return value
    if name not in value:
        raise ValueError(f"The input is {name}. Received: {', '.join(value)}")
    return value[name]


# What JSON may hold for the kinds of numpy's types.
_TYPES = {"O": [bytes], "u": [int], "i": [int], "f": [int, float], "b": [bool]}


def to_array(values: object, dtype: np.dtype) -> np.ndarray:
    """Nested lists of a body -> a tensor of a signature's type.

    Raises:
      ValueError: they are not of that type, or of different lengths.
    """
    array = np.array(_to_bytes(values) if dtype.kind == "O" else values, object)
    # A list that is left as an element has neighbours of another length.
    if all(type(value) in _TYPES[dtype.kind] for value in array.ravel()):
        too_large = OverflowError, FloatingPointError
        with contextlib.suppress(*too_large), np.errstate(over="raise"):
            return array.astype(dtype)
    raise ValueError(
        f"Expected equal lists of {'strings' if dtype.kind == 'O' else dtype}. "
        f"Received: {_one_line(values)}"
    )


def _is_base64(value: object) -> bool:
    is_one = isinstance(value, dict) and value.keys() == {"b64"}
    return is_one and isinstance(value["b64"], str)


def _to_bytes(value: object) -> object:
    """Strings, and the base64 of {"b64": ...}, in lists of any depth."""
    if isinstance(value, list):
        return [_to_bytes(each) for each in value]
    if isinstance(value, str):
        return value.encode()
    if _is_base64(value):
        # As in TensorFlow Serving, the padding may be missing.
        text = re.sub(r"\s", "", value["b64"]).rstrip("=")
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError as error:
            raise ValueError(f"Not base64. Received: {_one_line(value)}") from error
    raise ValueError(f"Expected a string. Received: {_one_line(value)}")


def to_json(array: np.ndarray) -> list:
    """The inverse of to_array; strings become text."""
    if array.dtype == object:
        texts = [value.decode(errors="replace") for value in array.ravel()]
        array = np.array(texts, object).reshape(array.shape)
    elif array.dtype == np.float32:
        # 0.2 and not 0.20000000298: the shortest that reads as the same number.
        array = array.astype(str).astype(np.float64)
    return array.tolist()


def _classify_json(versions: Versions, spec: Message, payload: dict) -> dict:
    request = protos.classification_pb2.ClassificationRequest(model_spec=spec)
    context, examples = payload.get("context", {}), payload.get("examples")
    if not isinstance(examples, list):
        raise ValueError(f"examples is a list. Received: {_one_line(examples)}")
    for example in examples:
        if not isinstance(example, dict) or not isinstance(context, dict):
            raise ValueError(f"An example is an object. Received: {_one_line(example)}")
        features = request.input.example_list.examples.add().features
        for name, content in (context | example).items():
            values = content if isinstance(content, list) else [content]
            if any(isinstance(value, list) for value in values):
                raise ValueError(
                    f"A feature is one list. Received: {_one_line(values)}"
                )
            feature = features.feature[name]
            if all(isinstance(value, int) for value in values):
                feature.int64_list.value[:] = map(int, values)  # of booleans too
            elif all(isinstance(value, float) for value in values):
                numbers = to_array(values, np.dtype(np.float32))
                feature.float_list.value[:] = numbers.tolist()
            else:
                feature.bytes_list.value[:] = _to_bytes(values)
    results = []
    for one in classify(versions, request).result.classifications:
        scores = np.array([each.score for each in one.classes], np.float32)
        labels = [each.label for each in one.classes]
        results.append(list(zip(labels, to_json(scores), strict=True)))
    return {"results": results}


# The protocols.


def _guard(answer: Callable, *arguments: object) -> object:
    """Every error is a StatusError: it ends a request and not the server."""
    try:
        return answer(*arguments)
    except StatusError:
        raise
    except (ValueError, RecursionError, OverflowError) as error:
        raise StatusError(_INVALID_ARGUMENT, _one_line(error)) from error
    except Exception as error:
        line = f"{type(error).__name__}: {_one_line(error)}"
        _say(f"a request failed: {line}")
        raise StatusError(_INTERNAL, line) from error


def _make_grpc_server(versions: Versions) -> grpc.Server:
    codes = {code.value[0]: code for code in grpc.StatusCode}

    def method(answer: Callable) -> Callable:
        def handle(request, context):
            try:
                if not request.model_spec.name:
                    raise StatusError(_INVALID_ARGUMENT, "Missing ModelSpec's name")
                return _guard(answer, versions, request)
            except StatusError as error:
                context.abort(codes[error.code], _one_line(error))

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
    service = protos.prediction_service_pb2_grpc.PredictionServiceServicer()
    service.Predict, service.Classify = method(predict), method(classify)
    service.GetModelMetadata = method(metadata)
    protos.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        service, server
    )
    models = protos.model_service_pb2_grpc.ModelServiceServicer()
    models.GetModelStatus = method(status)
    protos.model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
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
            code, message = 400, _one_line(error)
        except StatusError as error:
            code, message = _HTTP_CODES.get(error.code, 500), _one_line(error)
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
            session.load_library()
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
    _say(
        f"serving {protos.MODEL_NAME}: gRPC on {address}:{grpc_port}, REST on http://"
        f"{address}:{rest_socket.getsockname()[1]}/v1/models/{protos.MODEL_NAME}"
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
            complaint = f"{_one_line(error)}; all stays as it is"
            if complaint != before:
                _say(complaint)
    _say("stopping: requests that are running are finished first")
    stopped = grpc_server.stop(_SECONDS_TO_FINISH)
    await asyncio.gather(stop_rest(), asyncio.to_thread(stopped.wait))
    versions.close()


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) > 1:
        words = " ".join(argv[1:])
        console.fail("export.serve", ValueError(f"Unexpected words. Received: {words}"))
    _say(
        "export.serve is for development and tests; in production, run TensorFlow "
        "Serving on the same directory"
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
        options = {name: FLAGS[name].value for name in ("host", "port", "rest_port")}
        asyncio.run(serve(FLAGS.export_dir, **options))
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.serve", error)


if __name__ == "__main__":
    app.run(main)
