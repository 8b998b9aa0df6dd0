"""Compares the answers for new photographs with a reference."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from export.drift_check import effects, two_sample, unusual
from export.drift_check.answers import Answers, find_near_duplicates
from export.drift_check.effects import MeanShift, ShareShift
from export.drift_check.reference import Reference
from pipeline.system import versions

FORMAT = 2

# With fewer images, a permutation test finds only changes that are obvious.
MIN_PHOTOGRAPHS = 10
_MAX_UNUSUAL = 24
_SEED = 0


class Counts(TypedDict):
    """Numbers of photographs.

    reference: photographs behind the reference.
    compared: new photographs that the tests use.
    near_duplicates: new photographs that are not compared, because each is a near
      duplicate of one that is.
    left_out: new photographs that could not be read or decoded.
    """

    reference: int
    compared: int
    near_duplicates: int
    left_out: int


class LeftOut(TypedDict):
    """A new photograph that could not be read or decoded."""

    name: str
    reason: str


class Unusual(TypedDict):
    """A new photograph far from the reference.

    distance: see unusual.distances_to_reference.
    label: the predicted class; probability: of this class, range [0, 1].
    """

    name: str
    distance: float
    label: str
    probability: float


class DriftReport(TypedDict):
    """The content of drift.json.

    format: number of this schema; it grows if a key changes its meaning.
    project: version and commit of this project.
    version: directory of the version whose reference is used.
    photographs: numbers of photographs.
    p: the probability that unchanged photographs differ as much in at least one test.
    tests: test -> p-value, adjusted for the number of tests (Holm).
    single_tests: test -> p-value of the test alone.
    class_shares: share of each predicted class, the largest difference first.
    missing_class: the class that is likeliest missing; its test says how likely.
    confidence: mean of the largest probability.
    unknown_score: its mean; None if the model or its reference has none.
    measures: mean of each measure of image_measures.
    unusual: the photographs farthest from the reference, the farthest first.
    left_out: the photographs that could not be read or decoded.
    """

    format: int
    project: dict[str, str | None]
    version: str
    photographs: Counts
    p: float
    tests: dict[str, float]
    single_tests: dict[str, float]
    class_shares: list[ShareShift]
    missing_class: str
    confidence: MeanShift
    unknown_score: MeanShift | None
    measures: list[MeanShift]
    unusual: list[Unusual]
    left_out: list[LeftOut]


def compare(
    reference: Reference,
    answers: Answers,
    names: Sequence[str],
    *,
    version: str,
    left_out: Sequence[LeftOut],
) -> DriftReport:
    """Compares new photographs with a reference.

    Args:
      reference: one that check_size allows.
      answers: of the new photographs, all decoded.
      names: the names of these photographs.
      version: directory of the version whose reference it is.
      left_out: the new photographs that could not be read or decoded.

    Raises:
      ValueError: there are too few photographs, or the model is another one.
    """
    _check_fits(reference, answers)
    repeated = find_near_duplicates(answers.hashes)
    counts = Counts(
        reference=reference.count,
        compared=int((~repeated).sum()),
        near_duplicates=int(repeated.sum()),
        left_out=len(left_out),
    )
    _check_counts(counts)
    names = [name for name, skip in zip(names, repeated, strict=True) if not skip]
    new = answers.take(~repeated)
    embeddings = reference.reduce(new.embeddings)
    single_tests = run_tests(reference, new)
    tests = two_sample.adjust_holm(single_tests)
    unknown_score = None
    if new.unknown_scores is not None and len(reference.unknown_scores):
        unknown_score = effects.compare_means(
            "unknown_score", reference.unknown_scores, new.unknown_scores
        )
    return DriftReport(
        format=FORMAT,
        project=versions.project_version(),
        version=version,
        photographs=counts,
        p=min(tests.values()),
        tests=tests,
        single_tests=single_tests,
        class_shares=_compare_classes(reference, new.class_ids),
        missing_class=reference.classes[
            two_sample.find_missing_class(reference.probabilities, _round(new))
        ],
        confidence=effects.compare_means(
            "confidence", reference.confidences, new.confidences
        ),
        unknown_score=unknown_score,
        measures=[
            effects.compare_means(
                name, reference.measures[:, column], new.measures[:, column]
            )
            for column, name in enumerate(reference.measure_names)
        ],
        unusual=_find_unusual(reference, new, embeddings, names),
        left_out=list(left_out),
    )


def _check_fits(reference: Reference, answers: Answers) -> None:
    size = answers.embeddings.shape[1]
    if size != len(reference.projection) or answers.num_classes != len(
        reference.classes
    ):
        raise ValueError(
            f"The reference belongs to another model, with {len(reference.classes)} "
            f"classes and embeddings of {len(reference.projection)} numbers. Received: "
            f"answers with {answers.num_classes} and {size}. Name the --export_dir of "
            "the model that answers."
        )


def check_size(reference: Reference, version: str) -> None:
    """Refuses a reference that is too small to compare with.

    version: directory of the version whose reference it is.

    Raises:
      ValueError: the reference holds too few photographs.
    """
    if reference.count < MIN_PHOTOGRAPHS:
        raise ValueError(
            f"The reference of {version} holds {reference.count} validation "
            f"photographs; at least {MIN_PHOTOGRAPHS} are needed: train with more "
            "photographs, or a larger share for validation, and export again."
        )


def _check_counts(counts: Counts) -> None:
    if counts["compared"] < MIN_PHOTOGRAPHS:
        raise ValueError(
            f"At least {MIN_PHOTOGRAPHS} photographs are needed, and 50 or more tell "
            f"much more. Received: {counts['compared']} that can be compared, "
            f"{counts['near_duplicates']} near duplicates of them, and "
            f"{counts['left_out']} that cannot be read or decoded."
        )


def run_tests(reference: Reference, new: Answers) -> dict[str, float]:
    """Returns test -> p-value.

    The test of unknown_score is left out if the model or the reference has no scores.

    new: answers of new photographs, all decoded and without near duplicates.
    """
    rng = np.random.default_rng(_SEED)
    size = len(reference.classes)
    p_values = {
        "embedding": two_sample.kernel_p_value(
            reference.embeddings, reference.reduce(new.embeddings), rng
        ),
        "appearance": two_sample.kernel_p_value(
            *two_sample.standardise(reference.measures, new.measures), rng
        ),
        "class_shares": two_sample.class_share_p_value(
            np.bincount(reference.class_ids, minlength=size),
            np.bincount(new.class_ids, minlength=size),
            rng,
        ),
        "missing_class": two_sample.missing_class_p_value(
            reference.probabilities, _round(new), rng
        ),
        "confidence": two_sample.rank_p_value(reference.confidences, new.confidences),
    }
    if new.unknown_scores is not None and len(reference.unknown_scores):
        p_values["unknown_score"] = two_sample.rank_p_value(
            reference.unknown_scores, new.unknown_scores
        )
    return p_values


def _round(new: Answers) -> np.ndarray:
    """Returns probabilities as the reference has them: rounding alone is no drift."""
    return new.probabilities.astype(np.float16)


def _compare_classes(reference: Reference, class_ids: np.ndarray) -> list[ShareShift]:
    size = len(reference.classes)
    old_counts = np.bincount(reference.class_ids, minlength=size).tolist()
    new_counts = np.bincount(class_ids, minlength=size).tolist()
    shifts = [
        effects.compare_shares(
            name, (old_count, reference.count), (new_count, len(class_ids))
        )
        for name, old_count, new_count in zip(
            reference.classes, old_counts, new_counts, strict=True
        )
    ]
    return sorted(shifts, key=lambda shift: -abs(shift["difference"]))


def _find_unusual(
    reference: Reference, new: Answers, embeddings: np.ndarray, names: Sequence[str]
) -> list[Unusual]:
    distances = unusual.distances_to_reference(
        reference.embeddings.astype(np.float32), embeddings
    )
    return [
        Unusual(
            name=names[row],
            distance=float(distances[row]),
            label=reference.classes[new.class_ids[row]],
            probability=float(new.confidences[row]),
        )
        for row in np.argsort(-distances, kind="stable")[:_MAX_UNUSUAL].tolist()
    ]
