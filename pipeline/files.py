"""Files and directories that appear whole or not at all."""

import contextlib
import fcntl
import glob
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def temporary_sibling(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty directory beside the target, so that a rename can publish from it.

    It is hidden, and gone afterwards whatever happened inside; what a killed process
    left behind goes with the next one for the same target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.tmp-"
    for left_behind in target.parent.glob(f"{glob.escape(prefix)}*/"):
        with _lock_directory(left_behind) as locked:
            if locked:
                shutil.rmtree(left_behind, ignore_errors=True)
    sibling = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        with _lock_directory(sibling):
            yield sibling
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


@contextlib.contextmanager
def _lock_directory(directory: pathlib.Path) -> Iterator[bool]:
    """Locks a directory while it is in use; gives whether nobody else had.

    The system lets go of the lock of a process that dies.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:  # somebody else has just removed it
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = True
    except OSError:  # in use, or a file system without locks
        locked = False
    try:
        yield locked
    finally:
        os.close(descriptor)


def check_writable(directory: pathlib.Path, flag: str) -> None:
    """Looks whether a directory can be written, or made.

    Raises:
      ValueError: it cannot; names the flag that chose it.
    """
    existing = directory.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(
            f"--{flag} must be a directory that can be written. Received: "
            f"--{flag}={directory}; {existing} "
            + ("cannot be." if existing.is_dir() else "is none.")
        )


def publish_directory(finished: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a finished directory to the target; an old target is replaced."""
    if os.path.lexists(target):
        with temporary_sibling(target) as aside:
            target.rename(aside / "old")
            finished.rename(target)
    else:
        finished.rename(target)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 file; a reader sees the old content or the new, never a part."""
    partial = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: object) -> None:
    """Writes a value as readable JSON; see write_text."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
