"""Imports the message classes of TensorFlow without Python's TensorFlow.

`import tensorflow` takes seconds and hundreds of megabytes.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator


@contextlib.contextmanager
def bare_tensorflow() -> Iterator[None]:
    """Replaces the package `tensorflow` by an empty one in a `with` block.

    The message modules are in subfolders of `tensorflow`, and Python imports a parent
    package first. The empty package has the real folder as its search path, so that the
    subfolders are found. It is removed afterwards: a later `import tensorflow` imports
    the real package. If the real package is already loaded, nothing is replaced.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    bare = types.ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        yield
    finally:
        del sys.modules["tensorflow"]
