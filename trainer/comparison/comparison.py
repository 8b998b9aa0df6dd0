"""Compares each run with the first one, on the same test photographs."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.comparison import paired_tests
from trainer.comparison.figures import (
    Estimate,
    accuracy_difference,
    class_rows,
    difference_figures,
)
from trainer.comparison.run_results import RunResults
from trainer.comparison.settings import Setting, differing_settings

# The kinds of a changed photograph, in the order in which they are shown.
BROKEN, MENDED, STILL_WRONG = "broken", "mended", "still wrong"


@dataclasses.dataclass(frozen=True)
class Change:
    """A photograph that the second run classifies differently.

    kind: BROKEN if only the first run gets it right, MENDED if only the second does,
      STILL_WRONG if both are wrong.
    row: index of the photograph in both runs.
    """

    kind: str
    row: int


@dataclasses.dataclass(frozen=True)
class ClassDifference:
    """How many photographs of one class each run gets right.

    count: test photographs of the class.
    difference: of the two fractions that are right.
    """

    name: str
    count: int
    first_right: int
    second_right: int
    difference: Estimate


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A run compared with the first one.

    differences: figure -> its value in the second run less that in the first.
    wins, losses: photographs that only the second, or only the first, gets right.
    p_value: of McNemar's exact test, corrected for the number of comparisons.
    detectable: the smallest difference in accuracy that the test finds with a chance of
      80 %; None if it finds none. See paired_tests.detectable_difference.
    classes: the classes that occur, in their order.
    changes: sorted by kind, and within a kind by the confidence of the second run, the
      highest first.
    """

    first: RunResults
    second: RunResults
    differences: dict[str, Estimate]
    wins: int
    losses: int
    p_value: float
    num_comparisons: int
    detectable: float | None
    classes: list[ClassDifference]
    settings: list[Setting]
    changes: list[Change]

    @property
    def count(self) -> int:
        """Returns the number of test photographs."""
        return len(self.first.names)

    @property
    def is_beyond_chance(self) -> bool:
        """Returns True if the difference in accuracy is significant."""
        return self.p_value < paired_tests.SIGNIFICANCE

    def changes_of(self, kind: str) -> list[Change]:
        """Returns the changes of one kind."""
        return [change for change in self.changes if change.kind == kind]


def compare_runs(runs: Sequence[RunResults]) -> list[Comparison]:
    """Compares each run with the first; see alignment.align_runs for the order."""
    first, *others = runs
    counts = [
        (
            int((second.is_right & ~first.is_right).sum()),
            int((first.is_right & ~second.is_right).sum()),
        )
        for second in others
    ]
    p_values = paired_tests.correct_p_values(
        [paired_tests.mcnemar_p_value(wins, losses) for wins, losses in counts]
    )
    return [
        Comparison(
            first=first,
            second=second,
            differences=difference_figures(first, second),
            wins=wins,
            losses=losses,
            p_value=p_value,
            num_comparisons=len(others),
            detectable=paired_tests.detectable_difference(
                wins, losses, len(first.names), comparisons=len(others)
            ),
            classes=_compare_classes(first, second),
            settings=differing_settings(first, second),
            changes=_find_changes(first, second),
        )
        for second, (wins, losses), p_value in zip(
            others, counts, p_values, strict=True
        )
    ]


def _compare_classes(first: RunResults, second: RunResults) -> list[ClassDifference]:
    differences = []
    for rows in class_rows(first):
        of_first, of_second = first.is_right[rows], second.is_right[rows]
        differences.append(
            ClassDifference(
                name=first.classes[first.labels[rows[0]]],
                count=len(rows),
                first_right=int(of_first.sum()),
                second_right=int(of_second.sum()),
                difference=accuracy_difference(of_first, of_second),
            )
        )
    return differences


def _find_changes(first: RunResults, second: RunResults) -> list[Change]:
    changes = []
    for row in np.flatnonzero(first.predicted != second.predicted):
        if first.is_right[row]:
            kind = BROKEN
        else:
            kind = MENDED if second.is_right[row] else STILL_WRONG
        changes.append(Change(kind, int(row)))
    kinds = (BROKEN, MENDED, STILL_WRONG)
    confidence = second.probabilities.max(axis=1)
    return sorted(changes, key=lambda c: (kinds.index(c.kind), -confidence[c.row]))
