"""Reads a file of corrected labels and applies it to a listing: --corrections=FILE."""

import collections
import csv
import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Iterable, Mapping

from pipeline.sources.images import AppliedCorrections, Decision, Listing
from pipeline.system import texts

COLUMNS = ("name", "action", "label")
ACTIONS = ("relabel", "keep", "drop")


@dataclasses.dataclass(frozen=True)
class Corrections:
    """The rows of a corrections file, before they are compared with a listing.

    file: path of the file. sha256: of its bytes.
    label_of: name -> the label that the photograph has afterwards, with the actions
      relabel and keep; None with the action drop.
    """

    file: str
    sha256: str
    label_of: Mapping[str, str | None]


def read_corrections(file: str) -> Corrections:
    """Reads a CSV file with the columns name, action and label, in any order.

    Raises:
      ValueError: the file or one of its rows cannot be used.
    """
    try:
        content = pathlib.Path(file).read_bytes()
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        lines = [
            (
                reader.line_num,
                [texts.unescape_formula(row.get(c) or "") for c in COLUMNS],
            )
            for row in reader
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"The corrections cannot be read: {error}. Received: --corrections={file}; "
            "check the path, or save the file again from labels.html."
        ) from error
    columns = reader.fieldnames or []
    if not lines or not set(COLUMNS) <= set(columns):
        problem = f"the columns {','.join(columns)}" if columns else "nothing in it"
        problem += "" if lines else " and no photograph"
        raise ValueError(
            "The corrections need a first line with the columns name,action,label and "
            "one line per photograph, as labels.html saves them. Received: "
            f"--corrections={file} with {problem}"
        )
    label_of: dict[str, str | None] = {}
    line_of_name: dict[str, int] = {}
    for line, (name, action, label) in lines:
        if not name or action not in ACTIONS or (not label and action != "drop"):
            raise ValueError(
                f"Each line needs a name, one of the actions {', '.join(ACTIONS)} and, "
                f"except for drop, a label. Received: line {line} of --corrections="
                f"{file}: name={name!r}, action={action!r}, label={label!r}"
            )
        decision = None if action == "drop" else label
        if label_of.setdefault(name, decision) != decision:
            raise ValueError(
                "A photograph can have one decision only. Received: lines "
                f"{line_of_name[name]} and {line} of --corrections={file} decide "
                f"differently on {name!r}; delete one of them."
            )
        line_of_name.setdefault(name, line)
    return Corrections(file, hashlib.sha256(content).hexdigest(), label_of)


def apply_corrections(listing: Listing, corrections: Corrections) -> Listing:
    """Returns the listing with the labels of the corrections, without dropped images.

    Raises:
      ValueError: the corrections name an image or a label that the listing does not
        have, or fewer than two classes are left.
    """
    label_of = {image.name: image.label for image in listing.images}
    _check_known(corrections, label_of)
    images, decisions = [], []
    for image in listing.images:
        if image.name not in corrections.label_of:
            images.append(image)
            continue
        label = corrections.label_of[image.name]
        if label is None:
            action = "drop"
        elif label == image.label:
            action = "keep"
            images.append(image)
        else:
            action = "relabel"
            images.append(
                dataclasses.replace(image, label=label, source_label=image.label)
            )
        decisions.append(Decision(image.name, action, image.label, label or ""))
    labels = sorted({image.label for image in images})
    if len(labels) < 2:
        raise ValueError(
            "A classifier needs at least two classes. Received: --corrections="
            f"{corrections.file}, after which the classes are {labels}. "
            "Correct the file."
        )
    applied = AppliedCorrections(corrections.file, corrections.sha256, tuple(decisions))
    return dataclasses.replace(listing, images=images, corrections=applied)


def _check_known(corrections: Corrections, label_of: Mapping[str, str]) -> None:
    labels = {label for label in corrections.label_of.values() if label is not None}
    unknown = {
        "names": [name for name in corrections.label_of if name not in label_of],
        "labels": sorted(labels - set(label_of.values())),
    }
    problems = [
        f"the unknown {kind} {texts.list_some([repr(value) for value in values])}"
        for kind, values in unknown.items()
        if values
    ]
    if problems:
        raise ValueError(
            "The corrections must name photographs and classes of the source. "
            f"Received: --corrections={corrections.file} with "
            f"{' and with '.join(problems)}. Nothing was applied: correct the file, or "
            "use the source that the labels were checked on."
        )


def count_actions(decisions: Iterable[Decision]) -> dict[str, int]:
    """Returns relabelled, kept, dropped -> number of images."""
    counts = collections.Counter(decision.action for decision in decisions)
    names = zip(("relabelled", "kept", "dropped"), ACTIONS, strict=True)
    return {name: counts[action] for name, action in names}
