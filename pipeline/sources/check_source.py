"""Refuses a source that cannot be listed, and says how to get there."""

import os
import pathlib
import re

from pipeline.sources import passed_over
from pipeline.sources.archives import is_archive, is_tar

TABLES = (".csv", ".tsv", ".jsonl")

# The start of an address, and how to copy what it names.
_COPY_COMMANDS = {
    "gs://": "gcloud storage cp --recursive {} .",
    "s3://": "aws s3 cp --recursive {} PHOTOS",
    "az://": "azcopy copy {} PHOTOS --recursive",
    "hf://": "hf download --repo-type=dataset OWNER/NAME --local-dir=PHOTOS",
}
_COPY_FILE = {
    "gs://": "gcloud storage cp {} .",
    "s3://": "aws s3 cp {} .",
    "http://": "wget {}",
    "https://": "wget {}",
}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ARCHIVES_TO_UNPACK = (".rar", ".7z", ".zst", ".lz4", ".dmg", ".iso", ".cab")


def check_source(source: str) -> None:
    """Checks that the source is of a known kind, and that a file or folder exists.

    Raises:
      ValueError: it is not.
    """
    kind, _, address = source.partition(":")
    if source == "sample" or kind in ("kaggle", "tfds"):
        return
    _refuse_addresses(source, address if kind == "csv" else source)
    if kind == "csv":
        if not os.path.isfile(address):
            problem = "does not exist"
            if os.path.exists(address):
                problem = "is no regular file"
            raise ValueError(
                "csv: needs the path of a table. Received: "
                f"--source={source}, and {address!r} {problem}."
            )
        return
    if os.path.isdir(source):
        if passed_over.is_library(os.path.basename(os.path.abspath(source))):
            raise ValueError(
                "The library of a program is no folder of photographs. Received: "
                f"--source={source}. Export the photographs from the program, one "
                "folder for each class."
            )
        return
    if not is_archive(source):
        raise ValueError(
            "--source must be a folder with one folder per class, a .zip or .tar of "
            "one, csv:FILE, kaggle:OWNER/NAME, tfds:NAME or sample. Received: "
            f"--source={source}, which {_describe_problem(source)}."
        )


def _describe_problem(source: str) -> str:
    """Returns what is wrong with a source that is no folder and no archive."""
    suffix = pathlib.PurePath(source).suffix.lower()
    if not os.path.exists(source):
        if source.startswith("~"):
            return "does not exist; write $HOME in place of ~"
        return "does not exist"
    if suffix in TABLES:
        return f"is a table: write --source=csv:{source}"
    if suffix in _ARCHIVES_TO_UNPACK:
        return "is an archive of another kind: unpack it, and give the folder"
    if suffix == ".zip":
        return "is no .zip archive, or is cut off: download or copy it again"
    return "is another file"


def _refuse_addresses(source: str, address: str) -> None:
    """Raises ValueError for an address on a network, and for shards of WebDataset."""
    if _ADDRESS.match(address):
        start = address.partition("://")[0].lower() + "://"
        commands = _COPY_COMMANDS
        if is_tar(address) or address.lower().endswith((".zip", *TABLES)):
            commands = commands | _COPY_FILE
        how = "Download it first, and give the folder or the archive"
        if start == "file://":
            how = "Leave out file://"
        elif start in commands:
            how = f"Copy it first: {commands[start].format(address)}"
        raise ValueError(
            f"--source must be on this machine. Received: --source={source}. {how}"
        )
    if address.endswith("}.tar"):
        raise ValueError(
            "Several shards cannot be read at once. Received: "
            f"--source={source}. Unpack them into one folder, and list it with "
            "csv:FILE."
        )
