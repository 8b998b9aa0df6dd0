"""From a finished run to a verified, versioned SavedModel."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import time
from collections.abc import Iterator

from export.version import server_files
from pipeline.system import files

_WITHDRAWN = ".withdrawn-"


@contextlib.contextmanager
def _only_one_publisher(base: pathlib.Path) -> Iterator[None]:
    """Versions and the files beside them change together."""
    descriptor = os.open(base, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def publish(
    candidate: pathlib.Path, base: pathlib.Path, *, keep: int | None
) -> pathlib.Path:
    """Renames a finished SavedModel to the next version and writes the configuration.

    The version is the second it appears in, and more than any before it, withdrawn ones
    included.
    """
    _sync(candidate)
    with _only_one_publisher(base):
        taken = list_versions(base) + list_withdrawn(base)
        version = base / str(max([int(time.time()), *(v + 1 for v in taken)]))
        candidate.rename(version)
        _sync_directory(base)
        versions = list_versions(base)
        leaving = versions[: -1 - keep] if keep is not None else []
        server_files.write_server_files(base, versions[len(leaving) :])
        for old in leaving:
            _remove(base / str(old))
    return version


def roll_back(export_dir: str) -> str:
    """Withdraws the newest version, so that servers go back to the one before.

    It stays below export_dir under a name that no server reads.

    Returns:
      The version that is the newest now.

    Raises:
      ValueError: there is no version to go back to.
    """
    base = pathlib.Path(export_dir)
    if not base.is_dir():
        raise ValueError(f"No such directory. Received: --export_dir={export_dir}")
    with _only_one_publisher(base):
        versions = list_versions(base)
        if len(versions) < 2:
            raise ValueError(
                "--rollback needs two versions, one to withdraw and one to go back to. "
                f"Received: --export_dir={export_dir} with {versions}"
            )
        newest, next_one = (base / str(version) for version in versions[:-3:-1])
        # Labels leave a version before it goes, and name none that is not loaded: a
        # server refuses them all then.
        server_files.write_server_files(base, versions[-2:-1])
        print(f"the label moves to {next_one.name}; waiting for servers", flush=True)
        time.sleep(server_files.CONFIG_POLL_SECONDS + 1)
        newest.rename(base / f"{_WITHDRAWN}{newest.name}")
        server_files.write_server_files(base, versions[:-1])
        _sync_directory(base)
    return str(next_one)


def list_withdrawn(base: pathlib.Path) -> list[int]:
    """The versions that roll_back() took away."""
    names = [path.name.removeprefix(_WITHDRAWN) for path in base.glob(f"{_WITHDRAWN}*")]
    return [int(name) for name in names if name.isdecimal()]


def _remove(version: pathlib.Path) -> None:
    """At once for a server, that must not see half a version."""
    with files.temporary_sibling(version.with_name("old")) as aside:
        version.rename(aside / version.name)
        shutil.rmtree(aside / version.name)


def _sync(directory: pathlib.Path) -> None:
    """Brings a directory to the disk: a rename may get there before what it names."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_directory(folder)


def _sync_directory(folder: str | os.PathLike) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_versions(export_dir: pathlib.Path) -> list[int]:
    """The versions a server sees, oldest first."""
    if not export_dir.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in export_dir.iterdir()
        if entry.name.isdecimal() and entry.is_dir()
    )
