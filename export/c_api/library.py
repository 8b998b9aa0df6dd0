"""Loads TensorFlow's C library with ctypes and declares its functions.

The functions are documented in tensorflow/c/c_api.h and tensorflow/c/tf_tensor.h.
"""

import ctypes
import functools
import importlib.util
import pathlib
import sys


class Output(ctypes.Structure):
    """TF_Output: one output of an operation."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes that TensorFlow allocated."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


@functools.cache
def load_library() -> ctypes.CDLL:
    """Loads the library once per process. It writes log lines to stderr.

    If Python's TensorFlow is not loaded, XLA is switched off for the process.

    Raises:
      OSError: tensorflow is not installed, or its package has no C library.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise OSError(
            "The package tensorflow is not installed; install this project again."
        )
    folder = pathlib.Path(spec.submodule_search_locations[0])
    paths = [*folder.glob("libtensorflow_cc.so.?"), *folder.glob("*_cc.?.dylib")]
    if not paths:
        raise OSError(
            "TensorFlow's C library libtensorflow_cc.so.2 is missing; install "
            f"tensorflow from its wheel. Received: {folder}"
        )
    library = ctypes.CDLL(str(paths[0]))
    _declare_functions(library)
    # TensorFlow Serving calls this when it starts, so that graphs that need XLA fail.
    # The call holds for the whole process: a process that trains must not make it.
    if "tensorflow.python" not in sys.modules:
        library._ZN10tensorflow21DisableXlaCompilationEv()
    return library


def _declare_functions(library: ctypes.CDLL) -> None:
    """Sets result and argument types; by default ctypes truncates pointers to ints."""
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
        "TF_NewBuffer": (ctypes.POINTER(Buffer), []),
        "TF_DeleteBuffer": (None, [ctypes.POINTER(Buffer)]),
        "TF_LoadSessionFromSavedModel": (
            pointer,
            [
                *(pointer, pointer, text, ctypes.POINTER(text), ctypes.c_int, pointer),
                *(ctypes.POINTER(Buffer), pointer),
            ],
        ),
        "TF_CloseSession": (None, [pointer, pointer]),
        "TF_DeleteSession": (None, [pointer, pointer]),
        "TF_GraphOperationByName": (pointer, [pointer, text]),
        "TF_SessionRun": (
            None,
            [pointer, pointer]
            + [ctypes.POINTER(Output), ctypes.POINTER(pointer), ctypes.c_int] * 2
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
