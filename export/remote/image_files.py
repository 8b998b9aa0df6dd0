"""Finds image files in folders and reads them as the server needs them."""

import itertools
import os
import sys
from collections.abc import Callable, Sequence

from pipeline.inspection import reencoding
from pipeline.inspection.formats import SUFFIXES_OF_SOURCES
from pipeline.inspection.opening import MissingReaderError
from pipeline.inspection.reencoding import StoredForm
from pipeline.system import regular_file, texts

_SUFFIXES = tuple(itertools.chain.from_iterable(SUFFIXES_OF_SOURCES.values()))


def find_images(arguments: Sequence[str]) -> list[str]:
    """Returns the paths of images, at least one.

    A file is taken whatever its name is. A folder is searched with its subfolders, in
    the order of the names, for files with the suffix of an image; one line on stderr
    says how many other files it has.

    Raises:
      ValueError: there is no argument, or no image in the folders.
    """
    if not arguments:
        raise ValueError(
            "Name photographs, or folders of photographs, on the command line. "
            "Received: none."
        )
    paths = []
    skipped = []
    for argument in arguments:
        if not os.path.isdir(argument):
            paths.append(argument)
            continue
        for folder, subfolders, names in os.walk(argument):
            subfolders.sort()  # os.walk visits them in the order of this list
            for name in sorted(names):
                path = os.path.join(folder, name)
                if name.lower().endswith(_SUFFIXES):
                    paths.append(path)
                else:
                    skipped.append(path)
    if skipped:
        examples = texts.escape_controls(texts.list_some(skipped))
        print(
            f"skipped, no suffix of an image: {len(skipped)} ({examples})",
            file=sys.stderr,
        )
    if not paths:
        folders = texts.list_some([f"'{argument}'" for argument in arguments])
        raise ValueError(
            "No photograph was found: no file has the suffix of an image, such as "
            f".jpg. Received: {texts.escape_controls(folders)}. Name photographs, or "
            "folders that hold some."
        )
    return paths


def read_as_stored(path: str, find_form: Callable[[], StoredForm]) -> bytes:
    """Returns the bytes of an image, changed as the preparation changes it.

    The same function as in the preparation turns an image upright, puts what is
    transparent on the background, converts formats that no model reads, and colours
    that would look wrong. A file that Pillow cannot decode is returned as it is: the
    server decides and reports whether it can decode it.

    find_form: returns how the training images were stored. It is called only for an
      image that depends on it, and its errors are passed on.

    Raises:
      OSError: the file cannot be read, or needs a package that is not installed; see
        regular_file.read_regular_file.
    """
    image_bytes = regular_file.read_regular_file(path)
    form = find_form() if _depends_on_form(image_bytes) else StoredForm()
    try:
        return reencoding.bytes_to_store(image_bytes, form)
    except MissingReaderError as error:
        raise OSError(str(error)) from error
    # For a damaged file Pillow raises exceptions of any type.
    except Exception:
        return image_bytes


def _depends_on_form(image_bytes: bytes) -> bool:
    try:
        return reencoding.depends_on_form(image_bytes)
    # As above; the attempt to convert the image decides.
    except Exception:
        return False
