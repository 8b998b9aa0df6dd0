"""A SavedModel on TensorFlow's C API: what TensorFlow Serving's own loader builds on.

Nothing of Python's TensorFlow is loaded. As a command it answers a file of requests,
which is how an export is tried before anybody sees it:
`python -m export.session SAVED_MODEL REQUESTS REPLIES`.
"""

import ctypes
from collections.abc import Mapping

import numpy as np

from export.c_api.library import Output, load_library
from export.protocol import messages, tensors
from export.protocol.messages import meta_graph_pb2
from export.protocol.status import Code, StatusError

_STRING_BYTES = 24  # sizeof(TF_TString)


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
                Code.FAILED_PRECONDITION,
                f'Serving signature key "{signature_name}" not found.',
            )
        signature = self.signatures[signature_name]
        missing = sorted(set(signature.inputs) - set(inputs))
        extra = sorted(set(inputs) - set(signature.inputs))
        if missing or extra:
            raise StatusError(
                Code.INVALID_ARGUMENT,
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
        endpoints = (Output * len(names))()
        for endpoint, name in zip(endpoints, names, strict=True):
            operation, _, index = name.partition(":")
            endpoint.operation = self._library.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if not endpoint.operation:
                raise StatusError(Code.NOT_FOUND, f"The graph has no {operation}")
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
    wanted = tensors.NUMPY_OF[info.dtype]
    if array.dtype != wanted:
        number, _ = tensors.DTYPES[array.dtype.name]
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Expects {name} to be {tensors.dtype_name(info.dtype)} but "
            f"{tensors.dtype_name(number)} is provided",
        )
    sizes = [dimension.size for dimension in info.tensor_shape.dim]
    if len(sizes) != array.ndim or any(
        wanted not in (-1, size)
        for wanted, size in zip(sizes, array.shape, strict=True)
    ):
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Expects {name} of shape {sizes} but {list(array.shape)} is provided",
        )


def _to_tensor(library: ctypes.CDLL, array: np.ndarray) -> int:
    number, _ = tensors.DTYPES[array.dtype.name]
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
    dtype = tensors.NUMPY_OF[number]
    rank = library.TF_NumDims(tensor)
    shape = tuple(library.TF_Dim(tensor, axis) for axis in range(rank))
    data = library.TF_TensorData(tensor)
    array = np.empty(shape, dtype)
    if number != messages.types_pb2.DT_STRING:
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
