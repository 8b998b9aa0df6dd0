"""A source string -> a list of images, each with a name, a label and a reader."""

import csv
import functools
import pathlib

from pipeline.sources.images import Listing, SourceImage, read_file


def list_csv(path: pathlib.Path) -> Listing:
    """Columns path and label, and optionally split and group; paths from the file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"The list of images cannot be read: {error}. Received: --source=csv:{path}"
        ) from error
    if not rows or not {"path", "label"} <= set(rows[0]):
        columns = ",".join(rows[0]) if rows else "nothing"
        raise ValueError(
            "A list of images starts with the columns path,label (and optionally split "
            f"and group). Received: --source=csv:{path} with {columns}"
        )
    images, seen = [], {}
    for line, row in enumerate(rows, start=2):
        name, label = row["path"] or "", row["label"] or ""
        split = row.get("split") or None
        if not name or not label or split not in (None, "train", "validation", "test"):
            raise ValueError(
                "Each line needs a path, a label and, if it names a split, train, "
                f"validation or test. Received: line {line} of {path}: "
                f"path={name!r}, label={label!r}, split={split!r}"
            )
        if name in seen:
            raise ValueError(
                f"Each path may stand once. Received: {name!r} in lines {seen[name]} "
                f"and {line} of {path}"
            )
        seen[name] = line
        read = functools.partial(read_file, str(path.parent / name))
        images.append(SourceImage(name, label, read, split, row.get("group") or None))
    return Listing(images)
