"""Renders labels.html: a page on which a person decides which labels are wrong."""

import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Mapping, Sequence

from pipeline.system import templates
from trainer.label_check.ranking import LabelIssue, Ranking

_TEMPLATES = pathlib.Path(__file__).parent / "templates"
# A person can look at this many at a time. The page is not much larger than its
# thumbnails.
_MAX_PHOTOGRAPHS = 300
_MAX_THUMBNAIL_BYTES = 9_000_000
THUMBNAIL_PX = 320


@dataclasses.dataclass(frozen=True)
class CheckedData:
    """The photographs of prepared data, in the order of a ranking's positions.

    names, splits: of each photograph.
    classes: names; a label is an index into them.
    decided: name -> action and label of the corrections that were applied before.
    """

    names: Sequence[str]
    splits: Sequence[str]
    classes: Sequence[str]
    decided: Mapping[str, Mapping[str, str]]


def choose_issues(ranking: Ranking, data: CheckedData) -> list[LabelIssue]:
    """Returns the photographs for the page, the most suspicious first.

    These are at most 300 whose label is less probable than the suggested one, and on
    which no person has decided before.
    """
    candidates = (
        issue
        for issue in ranking.issues
        if issue.score < issue.suggested_score
        and data.names[issue.position] not in data.decided
    )
    return list(itertools.islice(candidates, _MAX_PHOTOGRAPHS))


def render_page(
    ranking: Ranking,
    data: CheckedData,
    issues: Sequence[LabelIssue],
    thumbnails: Mapping[int, str],
) -> str:
    """Returns the HTML of the page.

    Args:
      ranking: of all photographs.
      issues: the photographs to show, in order; the last ones are left out if the page
        would be too large.
      thumbnails: position of each issue -> JPEG in base64.
    """
    sizes = itertools.accumulate(len(thumbnails[issue.position]) for issue in issues)
    count = sum(size <= _MAX_THUMBNAIL_BYTES for size in sizes)
    photographs = [
        {
            "name": data.names[issue.position],
            "split": data.splits[issue.position],
            "label": data.classes[issue.label],
            "suggested": data.classes[issue.suggested],
            "score": issue.score,
            "suggested_score": issue.suggested_score,
            "thumbnail": thumbnails[issue.position],
        }
        for issue in issues[:count]
    ]
    keys = ("name", "label", "suggested")
    return templates.render(
        _TEMPLATES,
        "labels.html",
        escape_html=True,
        photographs=photographs,
        classes=list(data.classes),
        ranking=ranking,
        num_decided=len(data.decided),
        page_data={
            "key": _make_key(ranking, data),
            "photographs": [{k: shown[k] for k in keys} for shown in photographs],
            "decided": dict(data.decided),
        },
    )


def _make_key(ranking: Ranking, data: CheckedData) -> str:
    """Returns the key under which the browser keeps the decisions on these data."""
    rows = sorted(
        f"{data.names[issue.position]}\0{data.classes[issue.label]}"
        for issue in ranking.issues
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]
