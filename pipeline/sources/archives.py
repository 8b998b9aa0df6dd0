"""Lists the images of a .zip archive of class folders."""

import collections
import functools
import pathlib
import zipfile
from collections.abc import Iterable

from pipeline.sources import passed_over
from pipeline.sources.folders import label_by_folder
from pipeline.sources.images import Listing
from pipeline.system import regular_file

# An archive above these limits is taken for a mistake or an attack.
_MAX_FILES = 5_000_000
_MAX_TOTAL_BYTES = 1 << 40


def list_zip(path: pathlib.Path, *, class_level: int | None = None) -> Listing:
    """Lists the files of a .zip archive, which are read in place and never extracted.

    So no name in an archive can make a file appear outside a directory.

    class_level: see folders.label_by_folder.

    Raises:
      ValueError: the archive is too large, has a password or holds unsafe names.
    """
    members = [m for m in _open_zip(str(path)).infolist() if not m.is_dir()]
    total_bytes = sum(member.file_size for member in members)
    if len(members) > _MAX_FILES or total_bytes > _MAX_TOTAL_BYTES:
        raise ValueError(
            f"An archive must not hold more than {_MAX_FILES} files or "
            f"{_MAX_TOTAL_BYTES} bytes. Received: --source={path} with "
            f"{len(members)} files and {total_bytes} bytes."
        )
    for member in members:
        parts = pathlib.PurePosixPath(member.filename).parts
        if not parts or ".." in parts or parts[0] == "/" or member.flag_bits & 1:
            raise ValueError(
                "An archive must hold only relative names and have no password. "
                f"Received: --source={path} with the member {member.filename!r}."
            )
    names, passed = _pass_over([member.filename for member in members])
    return label_by_folder(
        {name: functools.partial(_read_member, str(path), name) for name in names},
        passed,
        class_level=class_level,
    )


def _pass_over(names: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """Returns the names of possible photographs, and notes on the other files."""
    images = []
    names_of_kind: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        *folders, last_part = name.split("/")
        kinds = [passed_over.find_kind_of_folder(folder) for folder in folders]
        kind = next(filter(None, kinds), passed_over.find_kind(last_part))
        if kind is None:
            images.append(name)
        else:
            names_of_kind[kind].append(name)
    return images, passed_over.describe(names_of_kind)


# Opening an archive reads its whole directory, so each process does it only once.
_open_zip = functools.cache(zipfile.ZipFile)


def _read_member(path: str, name: str) -> bytes:
    archive = _open_zip(path)
    if archive.getinfo(name).file_size > regular_file.MAX_FILE_BYTES:
        raise ValueError(f"more than {regular_file.MAX_FILE_BYTES} bytes")
    try:
        return archive.read(name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"damaged in the archive: {error}") from error
