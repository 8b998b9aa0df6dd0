"""Lists the images of an archive of class folders: .zip, .tar, .tar.gz and the like."""

import collections
import contextlib
import functools
import importlib
import lzma
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence

from pipeline.sources import passed_over
from pipeline.sources.folders import Reader, label_by_folder
from pipeline.sources.images import Listing, SourceImage
from pipeline.sources.walk import name_all
from pipeline.system import regular_file, texts

# An archive that is larger than these limits is a mistake or an attack.
_MAX_FILES = 5_000_000
_MAX_TOTAL_BYTES = 1 << 40
# Photographs hardly shrink when they are compressed again.
_MAX_GROWTH = 20

# A bit of a member's flags (APPNOTE 4.4.4).
_MARKED_AS_UTF8 = 0x800

_TAR_SUFFIXES = (*(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),)


def is_archive(path: str) -> bool:
    """Tells whether a file has the content of a .zip or the name of a .tar."""
    is_file = pathlib.Path(path).is_file()
    return is_file and (is_tar(path) or zipfile.is_zipfile(path))


def is_tar(path: str) -> bool:
    """Tells whether a file is named as a .tar archive."""
    return path.lower().endswith(_TAR_SUFFIXES)


def list_archive(
    path: pathlib.Path, *, work_dir: pathlib.Path, class_level: int | None = None
) -> Listing:
    """Lists the files of an archive; they are read from the archive itself.

    No file is extracted under its name, so none can be written outside work_dir. Links
    and devices in the archive are ignored.

    Args:
      path: a .zip or .tar file; a .tar file may be compressed.
      work_dir: directory for the uncompressed copy of a compressed .tar.
      class_level: see folders.label_by_folder.

    Raises:
      ValueError: the archive is damaged or too large, has a password or holds unsafe
        names.
    """
    notes: tuple[str, ...] = ()
    if is_tar(path.name):
        readers = _find_tar_members(path, work_dir)
    else:
        readers = _find_zip_members(path)
        notes = _describe_unmarked(path)
    if _is_webdataset(readers):
        return _list_webdataset(readers)
    names, passed = _pass_over(readers)
    return label_by_folder(
        {name: readers[name] for name in names},
        (*notes, *passed),
        class_level=class_level,
    )


def _find_zip_members(path: pathlib.Path) -> dict[str, Reader]:
    try:
        members = [m for m in _open_zip(str(path)).infolist() if not m.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"The archive cannot be read: {error}. Received: --source={path}; download "
            "or copy it again."
        ) from error
    for member in members:
        if member.flag_bits & 1:
            raise ValueError(
                "An archive must have no password. Received: --source="
                f"{path} with the member {member.filename!r}. "
                "Unpack it with its password, and give the folder."
            )
    names = _name_zip_members(members)
    sizes = [member.file_size for member in members]
    _check_members(dict(zip(names, sizes, strict=True)), path)
    return {
        name: functools.partial(_read_member, str(path), member.filename)
        for name, member in zip(names, members, strict=True)
    }


def _name_zip_members(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Returns the names of members with "/" between folders, and in UTF-8 if they are.

    Programs of macOS do not mark names as UTF-8, and some of Windows write "\\".
    """
    names = []
    for member in members:
        name = member.filename
        if not member.flag_bits & _MARKED_AS_UTF8:
            with contextlib.suppress(UnicodeError):
                name = name.encode("cp437").decode()
        names.append(name)
    if not any("/" in name for name in names):
        names = [name.replace("\\", "/") for name in names]
    return [name.removeprefix("./") for name in names]


def _describe_unmarked(path: pathlib.Path) -> tuple[str, ...]:
    """Returns a note if a name of a .zip archive is in an unknown encoding."""
    members = _open_zip(str(path)).infolist()
    names = zip(_name_zip_members(members), members, strict=True)
    unknown = [
        name
        for name, member in names
        if not member.flag_bits & _MARKED_AS_UTF8
        and not name.isascii()
        and name == member.filename
    ]
    if not unknown:
        return ()
    return (
        f"names in an unknown encoding, read as IBM 437: {len(unknown)} "
        f"({texts.list_some(unknown, limit=3)}); if they look wrong, unpack the "
        "archive and give the folder",
    )


def _find_tar_members(path: pathlib.Path, work_dir: pathlib.Path) -> dict[str, Reader]:
    try:
        plain = _uncompress(path, work_dir)
        with tarfile.open(plain, "r:") as archive:
            members = [m for m in archive if m.isreg() and not m.issparse()]
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(
            f"The archive cannot be read: {error}. Received: --source={path}; download "
            "or copy it again."
        ) from error
    names = name_all([member.name.removeprefix("./") for member in members])
    member_of = dict(zip(names, members, strict=True))
    _check_members({name: member.size for name, member in member_of.items()}, path)
    return {
        name: functools.partial(_read_part, str(plain), member.offset_data, member.size)
        for name, member in member_of.items()
    }


def _uncompress(path: pathlib.Path, work_dir: pathlib.Path) -> pathlib.Path:
    """Returns the path of the archive, or of its uncompressed copy.

    It makes a copy because a compressed archive can be read only from its start.
    """
    with open(path, "rb") as file:
        magic = file.read(6)
    openers = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
    opener = next((o for start, o in openers.items() if magic.startswith(start)), None)
    if opener is None:
        return path
    limit = _MAX_GROWTH * path.stat().st_size + (1 << 30)
    target = work_dir / "source.tar"
    with (
        importlib.import_module(opener).open(path) as packed,
        open(target, "wb") as out,
    ):
        while chunk := packed.read(1 << 20):
            out.write(chunk)
            if out.tell() > limit:
                raise ValueError(
                    f"The archive grows more than {_MAX_GROWTH} times when it is "
                    f"uncompressed. Received: --source={path}; if you trust it, unpack "
                    "it and give the folder."
                )
    return target


def _check_members(bytes_of: Mapping[str, int], path: pathlib.Path) -> None:
    """Raises ValueError for too many or too large members, and for unsafe names."""
    total_bytes = sum(bytes_of.values())
    if len(bytes_of) > _MAX_FILES or total_bytes > _MAX_TOTAL_BYTES:
        raise ValueError(
            f"An archive must not hold more than {_MAX_FILES} files or "
            f"{_MAX_TOTAL_BYTES / 2**30:g} GiB. Received: --source={path} with "
            f"{len(bytes_of)} files and {total_bytes / 2**30:.1f} GiB. Unpack it and "
            "give the folder."
        )
    for name in bytes_of:
        parts = pathlib.PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise ValueError(
                "An archive must hold only names within the folder that it unpacks "
                f"to. Received: --source={path} with the member {name!r}; pack it "
                "again."
            )


def _is_webdataset(names: Iterable[str]) -> bool:
    """Tells whether the names are samples of WebDataset: 1.jpg and its class 1.cls."""
    return any(name.endswith(".cls") for name in names)


def _list_webdataset(readers: Mapping[str, Reader]) -> Listing:
    """Lists images of WebDataset: the files of a sample differ only in their suffix."""
    label_of = {
        name.removesuffix(".cls"): read().decode("utf-8", "replace").strip()
        for name, read in readers.items()
        if name.endswith(".cls")
    }
    images = []
    for name, read in readers.items():
        # The name of a sample ends at the first dot of its last part.
        folder, _, last_part = name.rpartition("/")
        sample = "/".join(filter(None, (folder, last_part.partition(".")[0])))
        is_image = passed_over.find_kind(last_part) is None and name[-4:] != ".cls"
        if sample in label_of and is_image:
            images.append(SourceImage(name, label_of[sample], read))
    note = "samples of WebDataset: the files .cls are the classes"
    return Listing(images, (note,))


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


# Opening an archive reads its whole directory, so each process opens it only once.
_open_zip = functools.cache(zipfile.ZipFile)


def _read_member(path: str, name: str) -> bytes:
    archive = _open_zip(path)
    if archive.getinfo(name).file_size > regular_file.MAX_FILE_BYTES:
        raise ValueError(f"larger than {regular_file.MAX_FILE_BYTES / 2**20:g} MiB")
    try:
        return archive.read(name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"damaged in the archive: {error}") from error


def _read_part(path: str, offset: int, size: int) -> bytes:
    if size > regular_file.MAX_FILE_BYTES:
        raise ValueError(f"larger than {regular_file.MAX_FILE_BYTES / 2**20:g} MiB")
    with open(path, "rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) != size:
        raise ValueError("damaged in the archive: it ends too early")
    return content
