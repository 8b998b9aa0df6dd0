"""Reads and writes splits.csv: the split of every image of a data set."""

import csv
import dataclasses
import pathlib
from collections import Counter
from collections.abc import Mapping

from pipeline.audit.decide import Audit
from pipeline.sources.images import SPLITS
from pipeline.system import texts

_COLUMNS = ("name", "label", "sha256", "group", "split")


@dataclasses.dataclass(frozen=True)
class ListedSplits:
    """The splits that a splits.csv lists.

    of_name: name of an image -> its split.
    of_hash: SHA-256 of a file -> its split. A file of an older version has none.
    """

    of_name: Mapping[str, str]
    of_hash: Mapping[str, str]


def write_splits(
    path: pathlib.Path, audit: Audit, split_of_name: Mapping[str, str]
) -> None:
    """Writes splits.csv: name, label, SHA-256 of the file, group and split.

    A name that a spreadsheet would take for a formula begins with an apostrophe.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for report in audit.usable:
            name = report.image.name
            group, split = audit.group_of[name], split_of_name[name]
            row = [name, report.image.label, report.file_hash, group, split]
            writer.writerow([texts.escape_formula(value) for value in row])


def read_splits(path: str) -> ListedSplits:
    """Reads the splits of a splits.csv.

    Raises:
      ValueError: there is no such file, it has no columns name and split, or it names
        another split than those of SPLITS.
    """
    try:
        rows = _read_rows(path)
        listed = ListedSplits(
            of_name={row["name"]: row["split"] for row in rows},
            of_hash={row["sha256"]: row["split"] for row in rows if row.get("sha256")},
        )
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--splits_from must be a splits.csv that pipeline.main wrote ({error!r}). "
            f"Received: --splits_from={path}"
        ) from error
    unknown = sorted(set(listed.of_name.values()) - set(SPLITS))
    if unknown:
        raise ValueError(
            f"The splits in --splits_from must be {', '.join(SPLITS)}. Received: "
            f"--splits_from={path} with the split {unknown[0]!r}"
        )
    return listed


def read_groups(data_dir: str) -> dict[str, str]:
    """Reads name -> group key from the splits.csv of prepared data.

    Raises:
      ValueError: there is no such file, or it has no columns name and group.
    """
    path = str(pathlib.Path(data_dir) / "splits.csv")
    try:
        return {row["name"]: row["group"] for row in _read_rows(path)}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            "--data_dir must hold the splits.csv that pipeline.main wrote "
            f"({error!r}). Received: --data_dir={data_dir}; prepare the data again."
        ) from error


def count_images(data_dir: str, split: str) -> Counter[str]:
    """Counts the images of each class in one split of prepared data.

    Raises:
      ValueError: there is no splits.csv, or it has no columns label and split.
    """
    path = str(pathlib.Path(data_dir) / "splits.csv")
    try:
        rows = _read_rows(path)
        return Counter(row["label"] for row in rows if row["split"] == split)
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            "--data_dir must hold the splits.csv that pipeline.main wrote "
            f"({error!r}). Received: --data_dir={data_dir}; prepare the data again."
        ) from error


def read_test_hashes(path: pathlib.Path) -> dict[str, str]:
    """Reads name -> SHA-256 of the test photographs that a splits.csv lists.

    Returns an empty dictionary if the file cannot be read, or has no hashes because an
    older version wrote it.
    """
    try:
        rows = _read_rows(str(path))
        return {row["name"]: row["sha256"] for row in rows if row["split"] == "test"}
    except (OSError, KeyError, UnicodeDecodeError):
        return {}


def _read_rows(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {
                column: texts.unescape_formula(value)
                for column, value in row.items()
                if isinstance(value, str)
            }
            for row in csv.DictReader(file)
        ]
