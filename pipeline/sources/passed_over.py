"""Tells by the name of a file in a folder or an archive whether it is no photograph."""

import pathlib
from collections.abc import Mapping, Sequence

from pipeline.system import texts

HIDDEN = "hidden"
BESIDE_CLASSES = "beside the class folders"
LINKED_FOLDERS = "links to folders"
BROKEN_LINKS = "links to nothing"
NOT_REGULAR = "no regular files (pipes, sockets, devices)"
UNREADABLE_FOLDERS = "folders that cannot be read"

_MAC_FILES = "AppleDouble files of macOS"
_TRASH = "in the trash of a phone"

_KIND_OF_SUFFIX = {
    **dict.fromkeys(
        (
            *(".mov", ".mp4", ".m4v", ".avi", ".3gp", ".3g2", ".mkv", ".webm", ".mts"),
            *(".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".insv", ".lrv"),
        ),
        "films",
    ),
    **dict.fromkeys((".m4a", ".mp3", ".wav", ".aac", ".ogg", ".amr"), "sounds"),
    **dict.fromkeys(
        (".aae", ".xmp", ".thm", ".dop", ".pp3"),
        "edits and notes that programs keep beside photographs",
    ),
    **dict.fromkeys(
        (
            *(".json", ".jsonl", ".xml", ".csv", ".tsv", ".txt", ".md", ".html"),
            *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".log", ".yaml", ".yml"),
        ),
        "texts and tables",
    ),
    **dict.fromkeys((".db", ".ini", ".lnk", ".url", ".tmp", ".part"), "system files"),
    **dict.fromkeys(
        (".zip", ".tar", ".tgz", ".gz", ".rar", ".7z"), "archives inside the folder"
    ),
    # Of many raw files, Pillow would read the small preview.
    **dict.fromkeys(
        (
            *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2"),
            *(".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f", ".raw", ".rwl", ".3fr"),
        ),
        "raw camera files (to use them, export them as JPEG)",
    ),
}


# Folders that operating systems and programs make.
_SYSTEM_FOLDERS = {
    *("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    *("__pycache__", "#recycle"),
}


def find_kind_of_folder(name: str) -> str | None:
    """Returns the kind of a folder that is passed over; None for any other folder."""
    if name in _SYSTEM_FOLDERS:
        return "folders of systems"
    return HIDDEN if name.startswith(".") else None


def find_kind(name: str) -> str | None:
    """Returns the kind of a file that is passed over; None for a possible photograph.

    name: the last part of its path.
    """
    if name.startswith("._"):
        return _MAC_FILES
    if name.startswith((".trashed-", ".Trash")):
        return _TRASH
    if name.startswith("."):
        return HIDDEN
    return _KIND_OF_SUFFIX.get(pathlib.PurePosixPath(name).suffix.lower())


def describe(names_of_kind: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns one sentence for each kind, with its count and the first names."""
    return tuple(
        f"passed over, {kind}: {len(names)} ({texts.list_some(sorted(names))})"
        for kind, names in sorted(names_of_kind.items())
        if names
    )
