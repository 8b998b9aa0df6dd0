"""Orders photographs by how little a prediction supports their label.

The score is the self-confidence of confident learning (Northcutt et al., 2021,
"Confident Learning: Estimating Uncertainty in Dataset Labels"): the probability of the
given label, predicted without the photograph. Confident learning also estimates how
many labels are wrong. cleanlab computes both.
docs/decisions/0047-labels-by-self-confidence.md compares other scores.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class LabelIssue:
    """A photograph whose label may be wrong.

    position: its row in the probabilities.
    suggested: the most probable of the other labels.
    score: probability of its label, range [0, 1]; a low one is suspicious.
    suggested_score: probability of the suggested label, range [0, 1].
    """

    position: int
    label: int
    suggested: int
    score: float
    suggested_score: float


@dataclasses.dataclass(frozen=True)
class Ranking:
    """All photographs that could be checked.

    issues: the most suspicious first.
    estimated_errors: about how many labels are wrong.
    not_judged: rows of the photographs that could not be checked.
    """

    issues: Sequence[LabelIssue]
    estimated_errors: int
    not_judged: Sequence[int]

    @property
    def warning(self) -> str | None:
        """Says so if the predictions are too poor for a check; otherwise None."""
        count = len(self.issues)
        doubted = sum(issue.score < issue.suggested_score for issue in self.issues)
        if 2 * doubted <= count:
            return None
        return (
            f"The predictions disagree with {doubted} of {count} labels. Either most "
            "labels are wrong, or the head cannot tell these classes apart; then the "
            "list and the estimate say little: try another --backbone or --weights."
        )


def rank(labels: np.ndarray, probabilities: np.ndarray) -> Ranking:
    """Ranks the photographs, those with equal scores by their position.

    Args:
      labels: int [N].
      probabilities: float [N, K], K >= 2, each row predicted without its photograph;
        NaN for a photograph that could not be checked.
    """
    # cleanlab imports scikit-learn and pandas, which takes a second.
    from cleanlab import count as cleanlab_count
    from cleanlab import rank as cleanlab_rank

    judged = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    not_judged = np.flatnonzero(np.isnan(probabilities).any(axis=1)).tolist()
    if not len(judged):
        return Ranking([], 0, not_judged)
    given, predicted = labels[judged], probabilities[judged]
    scores = cleanlab_rank.get_label_quality_scores(
        given, predicted, method="self_confidence"
    )
    others = predicted.copy()
    others[np.arange(len(given)), given] = -1
    suggested = others.argmax(axis=1)
    issues = [
        LabelIssue(
            position=int(judged[index]),
            label=int(given[index]),
            suggested=int(suggested[index]),
            score=float(scores[index]),
            suggested_score=float(predicted[index, suggested[index]]),
        )
        for index in np.argsort(scores, kind="stable")
    ]
    estimated = int(cleanlab_count.num_label_issues(given, predicted))
    return Ranking(issues, estimated, not_judged)
