"""Loads a SavedModel and runs its signatures on TensorFlow's C API."""

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np

from export.c_api.library import Output, load_library
from export.protocol import messages, tensors
from export.protocol.messages import meta_graph_pb2
from export.protocol.status import Code, StatusError

# sizeof(TF_TString): a tensor of strings is an array of them.
_STRING_BYTES = 24


class Session:
    """A loaded SavedModel, like tf.compat.v1.Session without Python's TensorFlow.

    Any number of threads may call run() at the same time.

    signatures: name -> tensorflow.SignatureDef, as the model declares it.
    """

    def __init__(self, saved_model_dir: str):
        """Loads a SavedModel with the tag "serve".

        Raises:
          OSError: TensorFlow's C library is missing.
          StatusError: TensorFlow cannot load the model.
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
        # Only the loader runs this signature.
        parsed.signature_def.pop("__saved_model_init_op", None)
        self.signatures = dict(parsed.signature_def)

    def run(
        self, signature_name: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        inputs: name -> array; strings are bytes in an array of dtype object.

        Returns:
          The outputs, name -> array, with strings as in the inputs.

        Raises:
          StatusError: the model has no such signature, the inputs do not fit it, or the
            graph fails. The code and message are those of TensorFlow Serving.
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
        arrays = self._run_graph(
            [(info.name, inputs[name]) for name, info in signature.inputs.items()],
            [info.name for info in signature.outputs.values()],
        )
        return dict(zip(signature.outputs, arrays, strict=True))

    def _run_graph(
        self, feeds: Sequence[tuple[str, np.ndarray]], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        """Runs the graph on arrays for the tensors in feeds; returns the fetches.

        Tensors are named OPERATION:INDEX.
        """
        library, status = self._library, _Status(self._library)
        outputs = (ctypes.c_void_p * len(fetches))()
        inputs = (ctypes.c_void_p * len(feeds))()
        try:
            for index, (_, array) in enumerate(feeds):
                inputs[index] = _to_tensor(library, array)
            library.TF_SessionRun(
                self._session,
                None,
                self._endpoints([name for name, _ in feeds]),
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
            return [_from_tensor(library, tensor) for tensor in outputs if tensor]
        finally:
            for tensor in (*inputs, *outputs):
                if tensor:
                    library.TF_DeleteTensor(tensor)

    def _endpoints(self, names: Sequence[str]) -> ctypes.Array:
        """Finds tensors by name (OPERATION:INDEX) in the graph."""
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
        """Frees the model. No thread may be in run()."""
        status = _Status(self._library)
        if self._session:
            self._library.TF_CloseSession(self._session, status.pointer)
            self._library.TF_DeleteSession(self._session, status.pointer)
        if self._graph:
            self._library.TF_DeleteGraph(self._graph)
        self._session = self._graph = None


class _Status:
    """A TF_Status: receives the error of one call."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        self.pointer = library.TF_NewStatus()

    def check(self) -> None:
        """Raises the error of the call as a StatusError."""
        code = self._library.TF_GetCode(self.pointer)
        if code:
            message = self._library.TF_Message(self.pointer).decode("utf-8", "replace")
            raise StatusError(code, message)

    def __del__(self):
        self._library.TF_DeleteStatus(self.pointer)


def _check_fits(name: str, array: np.ndarray, info: meta_graph_pb2.TensorInfo) -> None:
    """Checks type and shape of an input with the messages of TensorFlow Serving."""
    if array.dtype != tensors.NUMPY_OF[info.dtype]:
        number, _ = tensors.DTYPES[array.dtype.name]
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Expects {name} to be {tensors.dtype_name(info.dtype)} but "
            f"{tensors.dtype_name(number)} is provided",
        )
    sizes = [dimension.size for dimension in info.tensor_shape.dim]
    if len(sizes) != array.ndim or any(
        declared_size not in (-1, size)
        for declared_size, size in zip(sizes, array.shape, strict=True)
    ):
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Expects {name} of shape {sizes} but {list(array.shape)} is provided",
        )


def _to_tensor(library: ctypes.CDLL, array: np.ndarray) -> int:
    """Copies an array to a new TF_Tensor, which the caller deletes."""
    number, _ = tensors.DTYPES[array.dtype.name]
    is_string = array.dtype == object
    length = array.size * (_STRING_BYTES if is_string else array.dtype.itemsize)
    sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = library.TF_AllocateTensor(number, sizes, array.ndim, length)
    data = library.TF_TensorData(tensor)
    if is_string:
        for index, value in enumerate(array.ravel().tolist()):
            address = data + index * _STRING_BYTES
            library.TF_StringInit(address)
            library.TF_StringCopy(address, value, len(value))
    elif length:
        ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, length)
    return tensor


def _from_tensor(library: ctypes.CDLL, tensor: int) -> np.ndarray:
    """Copies a TF_Tensor to an array."""
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
        address = data + index * _STRING_BYTES
        flat[index] = ctypes.string_at(
            library.TF_StringGetDataPointer(address), library.TF_StringGetSize(address)
        )
    return array
