"""Lists the images that a CSV file names: the source csv:FILE."""

import csv
import functools
import pathlib

from pipeline.sources.images import SPLITS, Listing, SourceImage, read_file


def list_csv(path: pathlib.Path) -> Listing:
    """Lists the rows of a CSV file with the columns path, label, [split], [group].

    Paths are relative to the folder of the CSV file.

    Raises:
      ValueError: the file or one of its rows cannot be used.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"The CSV file cannot be read: {error}. Received: --source=csv:{path}"
        ) from error
    if not rows or not {"path", "label"} <= set(rows[0]):
        columns = ",".join(rows[0]) if rows else "no rows"
        raise ValueError(
            "The CSV file needs a first line with the columns path,label (and "
            "optionally split,group) and one line per image. Received: "
            f"--source=csv:{path} with {columns}"
        )
    images: list[SourceImage] = []
    line_of_name: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        name, label = row["path"] or "", row["label"] or ""
        split = row.get("split") or None
        if not name or not label or split not in (None, *SPLITS):
            raise ValueError(
                "Each line needs a path, a label and, if the column split is used, "
                "train, validation or test. Received: "
                f"line {line} of {path}: path={name!r}, label={label!r}, "
                f"split={split!r}"
            )
        if name in line_of_name:
            raise ValueError(
                "Each path must be in one line only. Received: "
                f"{name!r} in lines {line_of_name[name]} and {line} of {path}"
            )
        line_of_name[name] = line
        read = functools.partial(read_file, str(path.parent / name))
        images.append(SourceImage(name, label, read, split, row.get("group") or None))
    return Listing(images)
