"""Writes files and directories that appear whole or not at all, and locks them."""

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

# Of renameat2(2) and openat(2): relative to the current directory; swap the two.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def temporary_sibling(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields an empty directory beside `target`, from which a rename can publish.

    The directory is hidden and is removed afterwards in any case. What a killed process
    left behind is removed by the next call for the same target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.tmp-"
    for left_behind in target.parent.glob(f"{glob.escape(prefix)}*/"):
        with contextlib.suppress(FileNotFoundError), lock(left_behind) as is_ours:
            if is_ours:
                shutil.rmtree(left_behind, ignore_errors=True)
    try:
        sibling = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as error:
        problem = f"{target.parent} cannot be written: {error.strerror}"
        raise OSError(f"{problem}. Received: {target}") from error
    try:
        with lock(sibling):
            yield sibling
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


@contextlib.contextmanager
def lock(
    path: pathlib.Path, *, wait: Callable[[], None] | None = None
) -> Iterator[bool]:
    """Locks a file or directory against other processes that call this function.

    The operating system releases the lock of a process that dies.

    Args:
      path: an existing file or directory.
      wait: called again and again, for example to sleep, while another process holds
        the lock. None does not wait.

    Yields:
      False if another process holds the lock, True otherwise. It is also True on a file
      system without locks, where nothing can be locked.

    Raises:
      FileNotFoundError: there is no such file.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _try_to_lock(descriptor, wait)
    finally:
        os.close(descriptor)


def _try_to_lock(descriptor: int, wait: Callable[[], None] | None) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                return False
            wait()
        except OSError:  # A file system without locks.
            return True
        else:
            return True


def check_writable(directory: pathlib.Path, flag: str) -> None:
    """Checks that a directory can be written, or created.

    Raises:
      ValueError: it cannot; the message names the flag that chose it.
    """
    existing = directory.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    problem = None
    if directory.parts[:1] == ("~",):  # Shells expand it only at the start of a word.
        problem = "~ would be the name of a new directory: write $HOME"
    elif not existing.is_dir():
        problem = f"{existing} is not a directory"
    elif not os.access(existing, os.W_OK):
        problem = f"{existing} is not writable"
    if problem is not None:
        raise ValueError(
            f"--{flag} must be a writable directory. Received: --{flag}={directory}, "
            f"but {problem}."
        )


def check_outside(out: pathlib.Path, source: str) -> None:
    """Checks that an output would not be a class of the source the next time.

    Raises:
      ValueError: the source is a folder, and the output lies in it.
    """
    folder = pathlib.Path(source).resolve()
    if folder.is_dir() and out.resolve().is_relative_to(folder):
        raise ValueError(
            "--out must not lie in --source, where it would be taken for a class. "
            f"Received: --source={source} --out={out}; choose another --out."
        )


def publish_directory(finished: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a finished directory to the target and replaces an old target.

    Linux exchanges the two in one operation, so that there is a target at any time.
    Where that is not possible, the old target is renamed first; if the process is
    killed before the second rename, restore_directory() undoes the first one.
    """
    if not os.path.lexists(target):
        finished.rename(target)
    elif exchange(finished, target):
        _remove(finished)
    else:
        replaced = _place_of_replaced(target)
        target.rename(replaced)
        finished.rename(target)
        _remove(replaced)


def restore_directory(target: pathlib.Path) -> bool:
    """Finishes or undoes what a killed publish_directory() left half-done.

    Returns:
      True if the old target had no successor yet, and is there again.
    """
    replaced = _place_of_replaced(target)
    if not os.path.lexists(replaced):
        return False
    if os.path.lexists(target):
        _remove(replaced)
        return False
    replaced.rename(target)
    return True


def _place_of_replaced(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f".{target.name}.replaced")


def _remove(path: pathlib.Path) -> None:
    """Removes a file, a link or a directory, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges two paths in one operation: each gets the name of the other.

    Returns:
      False if this operating system or file system cannot; nothing has changed then.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(first), os.fsencode(second)
    arguments = _AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE
    return renameat2(*arguments) == 0


@contextlib.contextmanager
def write_aside(path: pathlib.Path, *, sync: bool = False) -> Iterator[pathlib.Path]:
    """Yields a hidden path beside `path`; what is written there then replaces `path`.

    A reader sees the old content or the new, never a part. After an error the partial
    file is removed and `path` is as it was.

    sync: wait until the content is on the disk before it gets its name.
    """
    # The suffix stays: some libraries choose a file format by it.
    partial = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield partial
        if sync:
            sync_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sync_to_disk(path: str | os.PathLike) -> None:
    """Waits until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 file; see write_aside."""
    with write_aside(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, value: object) -> None:
    """Writes a value as readable JSON; see write_aside."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
