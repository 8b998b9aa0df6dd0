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
            *(".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".insv", ".lrv", ".mp"),
        ),
        "films",
    ),
    **dict.fromkeys(
        (".m4a", ".mp3", ".wav", ".aac", ".ogg", ".opus", ".amr"), "sounds"
    ),
    **dict.fromkeys(
        (".aae", ".xmp", ".thm", ".dop", ".pp3", ".cos", ".cot", ".cop"),
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
            *(".gpr", ".iiq", ".dcr", ".kdc", ".dcs", ".mrw", ".erf", ".mef", ".mos"),
            *(".cap", ".fff", ".bay", ".eip", ".ari", ".r3d"),
        ),
        "raw camera files (to use them, export them as JPEG)",
    ),
}


# Folders that operating systems and programs make.
_SYSTEM_FOLDERS = {
    *("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    *("__pycache__", "#recycle"),
}
# The libraries of programs, which hold small copies of photographs and data bases.
_LIBRARY_SUFFIXES = (
    *(".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary"),
    *(".lrlibrary", ".lrdata", ".lrcat-data", ".cocatalog", ".cosessiondb"),
)


def find_kind_of_folder(name: str) -> str | None:
    """Returns the kind of a folder that is passed over; None for any other folder."""
    if name in _SYSTEM_FOLDERS:
        return "folders of systems"
    if is_library(name):
        return "libraries of programs (to use them, export the photographs)"
    return HIDDEN if name.startswith(".") else None


def is_library(name: str) -> bool:
    """Tells whether a folder is the library of a program, such as Apple Photos."""
    return name.lower().endswith(_LIBRARY_SUFFIXES) or name == "CaptureOne"


def find_kind(name: str) -> str | None:
    """Returns the kind of a file that is passed over; None for a possible photograph.

    name: the last part of its path.
    """
    if name.startswith("._"):
        return _MAC_FILES
    if name.startswith((".trashed-", ".Trash")):
        return _TRASH
    if name.endswith(".icloud"):
        return "photographs that are still in iCloud (download them to use them)"
    if name.startswith(".") or name.rstrip("\r") == "Icon":
        return HIDDEN
    return _KIND_OF_SUFFIX.get(pathlib.PurePosixPath(name).suffix.lower())


def describe(names_of_kind: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns one sentence for each kind, with its count and the first names."""
    return tuple(
        f"passed over, {kind}: {len(names)} ({texts.list_some(sorted(names))})"
        for kind, names in sorted(names_of_kind.items())
        if names
    )
