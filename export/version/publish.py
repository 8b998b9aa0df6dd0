"""Publishes a SavedModel as the next version of an export, and rolls back."""

import contextlib
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Sequence

from export.version import server_files
from pipeline.system import files

_WITHDRAWN_PREFIX = ".withdrawn-"
_LOCK_POLL_SECONDS = 0.05


def publish(
    candidate: pathlib.Path,
    export_dir: pathlib.Path,
    *,
    keep: int | None,
    load_seconds: float,
) -> pathlib.Path:
    """Renames a finished SavedModel to the next version and writes the server files.

    The version number is the time in seconds since 1970, or the highest number so far
    plus one if that is more. Withdrawn versions count too.

    Args:
      candidate: the SavedModel, on the file system of export_dir.
      export_dir: an existing directory.
      keep: number of older versions that stay; None keeps all.
      load_seconds: how long a server takes at most to load the version and to answer
        its warm-up requests.

    Returns:
      The directory of the version.
    """
    # The rename must not reach the disk before the files.
    _sync_tree(candidate)
    with _lock(export_dir):
        numbers = list_versions(export_dir) + list_withdrawn(export_dir)
        number = max([int(time.time()), *(number + 1 for number in numbers)])
        version_dir = export_dir / str(number)
        candidate.rename(version_dir)
        files.sync_to_disk(export_dir)
        versions = list_versions(export_dir)
        obsolete = versions[: -1 - keep] if keep is not None else []
        # The labels leave a version before the version goes, and servers get the time
        # to read that. They refuse the new labels until the new version is loaded, and
        # look again CONFIG_POLL_SECONDS later.
        server_files.write_server_files(export_dir, versions[len(obsolete) :])
        if set(obsolete) & set(_find_labelled(versions[:-1])):
            seconds = load_seconds + server_files.CONFIG_POLL_SECONDS + 2
            print(
                "the labels leave versions that --keep removes; waiting "
                f"{seconds:.0f} s for servers",
                flush=True,
            )
            time.sleep(seconds)
        for version in obsolete:
            _remove_version(export_dir / str(version))
    return version_dir


def roll_back(export_dir: str) -> str:
    """Withdraws the newest version, so that servers return to the one before.

    The version stays in export_dir, under a name that no server reads.

    Returns:
      The directory of the version that is now the newest.

    Raises:
      ValueError: there is no version to return to.
    """
    base = pathlib.Path(export_dir)
    if not base.is_dir():
        raise ValueError(
            "--export_dir must be a directory that export.main has written. Received: "
            f"--export_dir={export_dir}, which does not exist."
        )
    with _lock(base):
        versions = list_versions(base)
        if len(versions) < 2:
            raise ValueError(
                "--rollback needs two versions, one to withdraw and one to return to. "
                f"Received: --export_dir={export_dir}, which has the versions "
                f"{versions}. Export again to have two."
            )
        newest, before = (base / str(version) for version in versions[:-3:-1])
        # The labels must leave a version before it goes, and must not name a version
        # that is not loaded yet: in both cases a server refuses all labels. Therefore
        # the files are written twice, and servers get the time to read the first.
        server_files.write_server_files(base, versions[-2:-1])
        print(
            f"the label 'stable' moves to {before.name}; waiting for servers",
            flush=True,
        )
        time.sleep(server_files.CONFIG_POLL_SECONDS + 1)
        newest.rename(base / f"{_WITHDRAWN_PREFIX}{newest.name}")
        server_files.write_server_files(base, versions[:-1])
        files.sync_to_disk(base)
    return str(before)


def list_versions(export_dir: pathlib.Path) -> list[int]:
    """Lists the versions that a server finds, oldest first."""
    if not export_dir.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in export_dir.iterdir()
        if entry.name.isdecimal() and entry.is_dir()
    )


def list_withdrawn(export_dir: pathlib.Path) -> list[int]:
    """Lists the versions that roll_back() withdrew."""
    names = [
        path.name.removeprefix(_WITHDRAWN_PREFIX)
        for path in export_dir.glob(f"{_WITHDRAWN_PREFIX}*")
    ]
    return [int(name) for name in names if name.isdecimal()]


def _find_labelled(versions: Sequence[int]) -> Sequence[int]:
    """Returns the versions that have a label, of all versions, oldest first."""
    return versions[-len(server_files.LABELS) :]


@contextlib.contextmanager
def _lock(export_dir: pathlib.Path) -> Iterator[None]:
    """Waits until no other process changes the versions or the server files."""
    with files.lock(export_dir, wait=lambda: time.sleep(_LOCK_POLL_SECONDS)):
        yield


def _remove_version(version_dir: pathlib.Path) -> None:
    """Moves a version away with one rename, then deletes it.

    A server never sees half a version.
    """
    with files.temporary_sibling(version_dir.with_name("old")) as aside:
        version_dir.rename(aside / version_dir.name)
        shutil.rmtree(aside / version_dir.name)


def _sync_tree(directory: pathlib.Path) -> None:
    """Waits until all files of a directory are on the disk."""
    for folder, _, names in os.walk(directory):
        for name in names:
            files.sync_to_disk(os.path.join(folder, name))
        files.sync_to_disk(folder)
