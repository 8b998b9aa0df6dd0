"""Brings the test photographs of several runs into one order, or raises an error."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Collection, Sequence

import numpy as np

from pipeline.splits.splits_csv import read_test_hashes
from trainer.comparison.run_results import RunResults

# The number of names in a message.
_MAX_NAMES = 3


def align_runs(runs: Sequence[RunResults]) -> list[RunResults]:
    """Returns the runs with the photographs and classes in the order of the first.

    Raises:
      ValueError: two runs have other classes, other test photographs or other labels.
    """
    first = runs[0]
    return [first, *(_align(run, first) for run in runs[1:])]


def _align(run: RunResults, first: RunResults) -> RunResults:
    _check_same_classes(run, first)
    _check_same_photographs(run, first)
    row_of_name = {name: row for row, name in enumerate(run.names)}
    rows = np.array([row_of_name[name] for name in first.names], int)
    # columns[k]: the label in `run` of the first run's class k.
    columns = np.array([run.classes.index(name) for name in first.classes], int)
    label_of_column = np.argsort(columns)
    aligned = dataclasses.replace(
        run,
        classes=first.classes,
        names=first.names,
        labels=label_of_column[run.labels[rows]],
        predicted=label_of_column[run.predicted[rows]],
        probabilities=run.probabilities[rows][:, columns],
        positions=run.positions[rows],
    )
    _check_same_labels(aligned, first)
    return aligned


def _check_same_classes(run: RunResults, first: RunResults) -> None:
    own, other = (
        set(run.classes) - set(first.classes),
        set(first.classes) - set(run.classes),
    )
    if own or other:
        raise ValueError(
            "The runs must have the same classes. Received: "
            f"{_describe_only(first, other)}; {_describe_only(run, own)}. Train both "
            "on the same data."
        )


def _check_same_photographs(run: RunResults, first: RunResults) -> None:
    own, other = set(run.names) - set(first.names), set(first.names) - set(run.names)
    if own or other:
        raise ValueError(
            "The runs must have the same test photographs. Received: "
            f"{len(set(run.names) & set(first.names))} that both have; "
            f"{_describe_only(first, other)}; {_describe_only(run, own)}. Train "
            "both on one DATA, or on data that were prepared from the same "
            "photographs with --splits_from=DATA/splits.csv."
        )
    hashes, first_hashes = _read_hashes(run), _read_hashes(first)
    changed = [
        name
        for name in first.names
        if hashes and first_hashes and hashes.get(name) != first_hashes.get(name)
    ]
    if changed:
        raise ValueError(
            "The runs must have the same test photographs. Received: "
            f"{len(changed)} of {len(first.names)} are other files of the same name "
            f"({_list_names(changed)}) in {_describe(first)} and {_describe(run)}. "
            "Train both on the same data."
        )


def _check_same_labels(run: RunResults, first: RunResults) -> None:
    differing = np.flatnonzero(run.labels != first.labels)
    if len(differing):
        row = differing[0]
        raise ValueError(
            "The runs must have the same label for each test photograph. Received: "
            f"{len(differing)} of {len(first.names)} differ, such as "
            f"{first.names[row]!r}: {first.classes[first.labels[row]]!r} in "
            f"{_describe(first)}, {first.classes[run.labels[row]]!r} in "
            f"{_describe(run)}. Train both on the data with the right labels."
        )


def were_checked_by_content(runs: Sequence[RunResults]) -> bool:
    """Returns True if the files were compared by their content, not only by name."""
    prints = {run.config.get("data", {}).get("splits_sha256") for run in runs}
    return (len(prints) == 1 and None not in prints) or all(map(_read_hashes, runs))


def find_data_dir(run: RunResults) -> pathlib.Path | None:
    """Returns the prepared data of a run, or None if they are gone or have changed."""
    fingerprint = run.config.get("data", {}).get("splits_sha256")
    stored = run.config.get("flags", {}).get("data_dir")
    for directory in (stored and pathlib.Path(stored), run.path / "data"):
        if directory is None:
            continue
        try:
            content = (directory / "splits.csv").read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == fingerprint:
            return directory
    return None


def _read_hashes(run: RunResults) -> dict[str, str]:
    """Returns name -> SHA-256 of the test photographs; empty if the data are gone."""
    data_dir = find_data_dir(run)
    return read_test_hashes(data_dir / "splits.csv") if data_dir else {}


def _describe(run: RunResults) -> str:
    return f"{run.letter} ({str(run.path)!r})"


def _describe_only(run: RunResults, names: Collection[str]) -> str:
    described = f"{len(names)} that only {_describe(run)} has"
    return f"{described} ({_list_names(names)})" if names else described


def _list_names(names: Collection[str]) -> str:
    shown = ", ".join(map(repr, sorted(names)[:_MAX_NAMES]))
    return f"{shown}, ..." if len(names) > _MAX_NAMES else shown
