"""A SavedModel on TensorFlow's C API: what TensorFlow Serving's own loader builds on.

Nothing of Python's TensorFlow is loaded. As a command it answers a file of requests,
which is how an export is tried before anybody sees it:
`python -m export.session SAVED_MODEL REQUESTS REPLIES`.
"""

import ctypes
import functools
import importlib.util
import pathlib
import sys


class Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Buffer(ctypes.Structure):
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
    # TensorFlow Serving calls it when it starts: a graph that needs XLA fails there. It
    # holds for the whole process, so not for one that trains as well.
    if "tensorflow.python" not in sys.modules:
        library._ZN10tensorflow21DisableXlaCompilationEv()
    return library
