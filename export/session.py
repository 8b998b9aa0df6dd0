"""A SavedModel on TensorFlow's C API: what TensorFlow Serving's own loader builds on.

Nothing of Python's TensorFlow is loaded. As a command it answers a file of requests,
which is how an export is tried before anybody sees it:
`python -m export.session SAVED_MODEL REQUESTS REPLIES`.
"""

import ctypes
import functools
import importlib.util
import pathlib
import pickle
import sys
from collections.abc import Mapping

import numpy as np

from export import protos
from export.protos import meta_graph_pb2

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
CLASSIFY_METHOD = "tensorflow/serving/classify"

_INVALID_ARGUMENT, _FAILED_PRECONDITION, _NOT_FOUND = 3, 9, 5
_STRING_BYTES = 24  # sizeof(TF_TString)


class StatusError(Exception):
    """An error with the code that TensorFlow, gRPC and TensorFlow Serving share."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


@functools.cache
def load_library() -> ctypes.CDLL:
    """Loads TensorFlow's libraries, which write to stderr; once a process.

    Raises:
      OSError: they are not there.
    """
    spec = importlib.util.find_spec("tensorflow")
    folder = pathlib.Path(spec.submodule_search_locations[0])
    found = [*folder.glob("libtensorflow_cc.so.?"), *folder.glob("*_cc.?.dylib")]
    if not found:
        raise OSError(
            f"TensorFlow's C API is not there. Received: {folder}, which has no "
            "libtensorflow_cc.so.2; install tensorflow from its wheel."
        )
    library = ctypes.CDLL(str(found[0]))
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    signatures = {
        "TF_NewStatus": (pointer, []),
        "TF_DeleteStatus": (None, [pointer]),
        "TF_GetCode": (ctypes.c_int, [pointer]),
        "TF_Message": (text, [pointer]),
        "TF_NewGraph": (pointer, []),
        "TF_DeleteGraph": (None, [pointer]),
        "TF_NewSessionOptions": (pointer, []),
        "TF_DeleteSessionOptions": (None, [pointer]),
        "TF_NewBuffer": (ctypes.POINTER(_Buffer), []),
        "TF_DeleteBuffer": (None, [ctypes.POINTER(_Buffer)]),
        "TF_LoadSessionFromSavedModel": (
            pointer,
            [
                *(pointer, pointer, text, ctypes.POINTER(text), ctypes.c_int, pointer),
                *(ctypes.POINTER(_Buffer), pointer),
            ],
        ),
        "TF_CloseSession": (None, [pointer, pointer]),
        "TF_DeleteSession": (None, [pointer, pointer]),
        "TF_GraphOperationByName": (pointer, [pointer, text]),
        "TF_SessionRun": (
            None,
            [pointer, pointer]
            + [ctypes.POINTER(_Output), ctypes.POINTER(pointer), ctypes.c_int] * 2
            + [pointer, ctypes.c_int, pointer, pointer],
        ),
        "TF_AllocateTensor": (
            pointer,
            [ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int, size],
        ),
        "TF_DeleteTensor": (None, [pointer]),
        "TF_TensorData": (pointer, [pointer]),
        "TF_TensorByteSize": (size, [pointer]),
        "TF_TensorType": (ctypes.c_int, [pointer]),
        "TF_NumDims": (ctypes.c_int, [pointer]),
        "TF_Dim": (ctypes.c_int64, [pointer, ctypes.c_int]),
        "TF_StringInit": (None, [pointer]),
        "TF_StringCopy": (None, [pointer, text, size]),
        "TF_StringGetDataPointer": (pointer, [pointer]),
        "TF_StringGetSize": (size, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    # TensorFlow Serving calls it when it starts: a graph that needs XLA fails there. It
    # holds for the whole process, so not for one that trains as well.
    if "tensorflow.python" not in sys.modules:
        library._ZN10tensorflow21DisableXlaCompilationEv()
    return library


class Session:
    """One loaded SavedModel; any number of threads may run it at once.

    signatures: name -> tensorflow.SignatureDef, as the model declares them.
    """

    def __init__(self, saved_model_dir: str):
        """Loads a SavedModel with the tag "serve".

        Raises:
          StatusError: TensorFlow's own, if it does not load.
        """
        self._library = load_library()
        tags = (ctypes.c_char_p * 1)(b"serve")
        options = self._library.TF_NewSessionOptions()
        meta_graph = self._library.TF_NewBuffer()
        status = _Status(self._library)
        self._graph = self._library.TF_NewGraph()
        self._session = None
        try:
            self._session = self._library.TF_LoadSessionFromSavedModel(
                options,
                None,
                str(saved_model_dir).encode(),
                tags,
                len(tags),
                self._graph,
                meta_graph,
                status.pointer,
            )
            status.check()
            buffer = meta_graph.contents
            parsed = meta_graph_pb2.MetaGraphDef.FromString(
                ctypes.string_at(buffer.data, buffer.length)
            )
        except BaseException:
            self.close()
            raise
        finally:
            self._library.TF_DeleteBuffer(meta_graph)
            self._library.TF_DeleteSessionOptions(options)
        # The loader's own, of no use to a caller.
        parsed.signature_def.pop("__saved_model_init_op", None)
        self.signatures = dict(parsed.signature_def)

    def run(
        self, signature_name: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        inputs: name -> array; strings are bytes in an array of objects.

        Raises:
          StatusError: with the code TensorFlow Serving gives: no such signature, not
            its inputs, or an error of the graph.
        """
        if signature_name not in self.signatures:
            raise StatusError(
                _FAILED_PRECONDITION,
                f'Serving signature key "{signature_name}" not found.',
            )
        signature = self.signatures[signature_name]
        missing = sorted(set(signature.inputs) - set(inputs))
        extra = sorted(set(inputs) - set(signature.inputs))
        if missing or extra:
            raise StatusError(
                _INVALID_ARGUMENT,
                f"input size does not match signature: {len(inputs)}!="
                f"{len(signature.inputs)}. Sent extra: {{{','.join(extra)}}}. "
                f"Missing but required: {{{','.join(missing)}}}.",
            )
        for name, info in signature.inputs.items():
            _check_fits(name, inputs[name], info)
        fed = [inputs[name] for name in signature.inputs]
        names = list(signature.outputs)
        results = self._run(
            [info.name for info in signature.inputs.values()],
            fed,
            [signature.outputs[name].name for name in names],
        )
        return dict(zip(names, results, strict=True))

    def _run(self, feeds: list[str], arrays: list, fetches: list[str]) -> list:
        library, status = self._library, _Status(self._library)
        outputs = (ctypes.c_void_p * len(fetches))()
        inputs = (ctypes.c_void_p * len(feeds))()
        try:
            for index, array in enumerate(arrays):
                inputs[index] = _to_tensor(library, array)
            library.TF_SessionRun(
                self._session,
                None,
                self._endpoints(feeds),
                inputs,
                len(feeds),
                self._endpoints(fetches),
                outputs,
                len(fetches),
                None,
                0,
                None,
                status.pointer,
            )
            status.check()
            return [_from_tensor(library, tensor) for tensor in outputs]
        finally:
            for tensor in (*inputs, *outputs):
                if tensor:
                    library.TF_DeleteTensor(tensor)

    def _endpoints(self, names: list[str]) -> ctypes.Array:
        endpoints = (_Output * len(names))()
        for endpoint, name in zip(endpoints, names, strict=True):
            operation, _, index = name.partition(":")
            endpoint.operation = self._library.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if not endpoint.operation:
                raise StatusError(_NOT_FOUND, f"The graph has no {operation}")
            endpoint.index = int(index or 0)
        return endpoints

    def close(self) -> None:
        """Frees the model; nothing may be running."""
        status = _Status(self._library)
        if self._session:
            self._library.TF_CloseSession(self._session, status.pointer)
            self._library.TF_DeleteSession(self._session, status.pointer)
        if self._graph:
            self._library.TF_DeleteGraph(self._graph)
        self._session = self._graph = None


class _Status:
    def __init__(self, library: ctypes.CDLL):
        self._library = library
        self.pointer = library.TF_NewStatus()

    def check(self) -> None:
        code = self._library.TF_GetCode(self.pointer)
        if code:
            message = self._library.TF_Message(self.pointer).decode("utf-8", "replace")
            raise StatusError(code, message)

    def __del__(self):
        self._library.TF_DeleteStatus(self.pointer)


def _check_fits(name: str, array: np.ndarray, info: meta_graph_pb2.TensorInfo) -> None:
    """Type and shape, in the words of TensorFlow Serving."""
    wanted = protos.NUMPY_OF[info.dtype]
    if array.dtype != wanted:
        number, _ = protos.DTYPES[array.dtype.name]
        raise StatusError(
            _INVALID_ARGUMENT,
            f"Expects {name} to be {protos.dtype_name(info.dtype)} but "
            f"{protos.dtype_name(number)} is provided",
        )
    sizes = [dimension.size for dimension in info.tensor_shape.dim]
    if len(sizes) != array.ndim or any(
        wanted not in (-1, size)
        for wanted, size in zip(sizes, array.shape, strict=True)
    ):
        raise StatusError(
            _INVALID_ARGUMENT,
            f"Expects {name} of shape {sizes} but {list(array.shape)} is provided",
        )


def _to_tensor(library: ctypes.CDLL, array: np.ndarray) -> int:
    number, _ = protos.DTYPES[array.dtype.name]
    is_string = array.dtype == object
    length = array.size * (_STRING_BYTES if is_string else array.dtype.itemsize)
    sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = library.TF_AllocateTensor(number, sizes, array.ndim, length)
    data = library.TF_TensorData(tensor)
    if is_string:
        for index, value in enumerate(array.ravel().tolist()):
            at = data + index * _STRING_BYTES
            library.TF_StringInit(at)
            library.TF_StringCopy(at, value, len(value))
    elif length:
        ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, length)
    return tensor


def _from_tensor(library: ctypes.CDLL, tensor: int) -> np.ndarray:
    number = library.TF_TensorType(tensor)
    dtype = protos.NUMPY_OF[number]
    rank = library.TF_NumDims(tensor)
    shape = tuple(library.TF_Dim(tensor, axis) for axis in range(rank))
    data = library.TF_TensorData(tensor)
    array = np.empty(shape, dtype)
    if number != protos.types_pb2.DT_STRING:
        if array.size:
            ctypes.memmove(array.ctypes.data, data, array.nbytes)
        return array
    flat = array.reshape(-1)
    for index in range(flat.size):
        at = data + index * _STRING_BYTES
        flat[index] = ctypes.string_at(
            library.TF_StringGetDataPointer(at), library.TF_StringGetSize(at)
        )
    return array


def replay_warmup(session: Session, saved_model_dir: str) -> int:
    """Answers the requests of a model's warm-up file; returns how many there are.

    Raises:
      StatusError: one cannot be answered.
      ValueError: the file is damaged.
    """
    path = pathlib.Path(saved_model_dir, WARMUP_FILE)
    count = 0
    for record in protos.read_records(path):
        count += 1
        log = protos.prediction_log_pb2.PredictionLog.FromString(record)
        if log.HasField("classify_log"):
            request = log.classify_log.request
            examples = request.input.example_list.examples
            encoded = [example.SerializeToString() for example in examples]
            inputs = {"inputs": np.array(encoded, object)}
        else:
            request = log.predict_log.request
            inputs = {
                name: protos.to_array(tensor) for name, tensor in request.inputs.items()
            }
        session.run(request.model_spec.signature_name or "serving_default", inputs)
    return count


def answer(saved_model_dir: str, requests: list[tuple[str, dict]]) -> dict:
    """Loads a SavedModel, replays its warm-up and answers requests.

    requests: (signature, inputs) each.

    Returns:
      signatures: name -> serialized SignatureDef; warmed_up: number of requests;
      replies: for each request its outputs, or (code, message); python_tensorflow:
      whether Python's TensorFlow was loaded after all.
    """
    session = Session(saved_model_dir)
    warmed_up = replay_warmup(session, saved_model_dir)
    replies = []
    for signature, inputs in requests:
        try:
            replies.append(session.run(signature, inputs))
        except StatusError as error:
            replies.append((error.code, error.message))
    declared = {k: v.SerializeToString() for k, v in session.signatures.items()}
    session.close()
    return {
        "signatures": declared,
        "warmed_up": warmed_up,
        "replies": replies,
        "python_tensorflow": "tensorflow.python" in sys.modules,
    }


def main(saved_model_dir: str, requests_path: str, replies_path: str) -> None:
    """See the module; requests and replies are pickles of what answer() takes."""
    requests = pickle.loads(pathlib.Path(requests_path).read_bytes())
    try:
        answered = answer(saved_model_dir, requests)
    except (StatusError, ValueError, OSError) as error:
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
    pathlib.Path(replies_path).write_bytes(pickle.dumps(answered))


if __name__ == "__main__":
    main(*sys.argv[1:])
