"""Files and directories that appear whole or not at all."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def temporary_sibling(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty directory beside the target, so that a rename can publish from it.

    It is hidden, and gone afterwards whatever happened inside.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sibling = tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent)
    try:
        yield pathlib.Path(sibling)
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


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
