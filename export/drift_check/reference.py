"""Reads and writes the reference of a version: what its validation images look like.

The file holds numbers that were computed of the images, but no image and no name.
"""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.drift_check.answers import Answers, find_near_duplicates
from export.drift_check.image_measures import MEASURES
from pipeline.system import files, versions

# In the directory of a version. TensorFlow Serving does not read it.
REFERENCE_FILE = "assets.extra/reference.npz"
# The first version of this project that writes the file.
FIRST_VERSION = "0.3.0"
FORMAT = 2

# Largest number of components; docs/decisions/0051-drift.md has the measurement.
_DIMENSIONS = 64
# A component needs at least this share of the largest variance.
_LEAST_VARIANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Reference:
    """The content of reference.npz, for n images of the validation split.

    format: number of this schema; it grows if an array changes its meaning.
    project: version of this project that wrote the file.
    classes: the K names, in the order of the probabilities.
    measure_names: the names of the columns of `measures`.
    center, projection: float32 [D], float32 [D, d]; see fit_projection.
    embeddings: float16 [n, d], reduced.
    class_ids: int64 [n], the predicted classes.
    confidences: float32 [n], the largest probability of each image, range [0, 1].
    probabilities: float16 [n, K].
    unknown_scores: float32 [n]; empty if the model has no such output.
    measures: float32 [n, 4]; see image_measures.
    """

    format: int
    project: str
    classes: tuple[str, ...]
    measure_names: tuple[str, ...]
    center: np.ndarray
    projection: np.ndarray
    embeddings: np.ndarray
    class_ids: np.ndarray
    confidences: np.ndarray
    probabilities: np.ndarray
    unknown_scores: np.ndarray
    measures: np.ndarray

    @property
    def count(self) -> int:
        """Returns the number of images."""
        return len(self.class_ids)

    def reduce(self, embeddings: np.ndarray) -> np.ndarray:
        """Reduces embeddings float32 [n, D] by the projection, to float32 [n, d]."""
        return (embeddings - self.center) @ self.projection


def make_reference(
    answers: Answers, training: np.ndarray, classes: Sequence[str]
) -> Reference:
    """Makes a reference of the images that were decoded, without near duplicates.

    Args:
      answers: of images of the validation split.
      training: float32 [t, D], embeddings of other images, to which the projection is
        fitted. If it were fitted to the images of the reference, it would suit these
        better than new images, and unchanged images would look changed.
      classes: the K names, in the order of the probabilities.
    """
    answers = answers.take(answers.decoded)
    answers = answers.take(~find_near_duplicates(answers.hashes))
    center, projection = fit_projection(training)
    scores = answers.unknown_scores
    return Reference(
        format=FORMAT,
        project=versions.PROJECT_VERSION,
        classes=tuple(classes),
        measure_names=tuple(measure.name for measure in MEASURES),
        center=center,
        projection=projection,
        embeddings=((answers.embeddings - center) @ projection).astype(np.float16),
        class_ids=answers.class_ids,
        confidences=answers.confidences,
        probabilities=answers.probabilities.astype(np.float16),
        unknown_scores=np.empty(0, np.float32) if scores is None else scores,
        measures=answers.measures,
    )


def fit_projection(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits a principal component analysis that gives each component variance 1.

    A change of the light or of the focus moves embeddings along components of small
    variance. Without the scaling, the components of large variance would hide that.

    embeddings: float32 [t, D], t at least 2.

    Returns:
      center float32 [D] and projection float32 [D, d]: the reduced embedding is
      (embedding - center) @ projection. d is at most 64, and at most t / 4 (but 1 at
      least).
    """
    count, size = embeddings.shape
    dimensions = max(1, min(_DIMENSIONS, size, count // 4))
    center = embeddings.mean(axis=0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(embeddings - center, full_matrices=False)
    variances = lengths[:dimensions] ** 2 / (count - 1)
    # A component that hardly varies would only magnify noise. All variances may be 0.
    kept = variances >= _LEAST_VARIANCE * variances[0]
    scales = np.sqrt(np.maximum(variances[kept], 1e-12))
    projection = (axes[:dimensions][kept] / scales[:, np.newaxis]).T
    return center.astype(np.float32), projection.astype(np.float32)


def write_reference(version_dir: pathlib.Path, reference: Reference) -> None:
    """Writes the reference into the directory of a version, before it is published."""
    path = version_dir / REFERENCE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        field.name: np.asarray(getattr(reference, field.name))
        for field in dataclasses.fields(Reference)
    }
    with files.write_aside(path) as partial:
        np.savez_compressed(partial, **arrays)


def read_reference(version_dir: pathlib.Path) -> Reference:
    """Reads the reference of a version.

    Raises:
      ValueError: the version has no such file, a later version of this project wrote
        it, or it is damaged.
    """
    path = version_dir / REFERENCE_FILE
    if not path.is_file():
        raise ValueError(
            f"{version_dir} has no reference to compare with ({REFERENCE_FILE}). "
            f"Exports of version {FIRST_VERSION} of this project and later have one, "
            "if the prepared data were there; this export "
            f"{_describe_writer(version_dir)}. Export the run again with python -m "
            "export.main."
        )
    try:
        # np.load alone would leave a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            stored = dict(arrays)
        file_format = int(stored["format"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged ({error}). Export the run again with python -m "
            "export.main."
        ) from error
    if file_format > FORMAT:
        raise ValueError(
            f"{path} has format {file_format}, and this version of the project reads "
            f"formats up to {FORMAT}: use version {stored['project']}, or a newer one."
        )
    if file_format < FORMAT:
        raise ValueError(
            f"{path} has format {file_format}, which lacks the probabilities that the "
            f"comparison needs since format {FORMAT}. Export the run again with python "
            "-m export.main."
        )
    return Reference(
        **stored
        | {
            "format": file_format,
            "project": str(stored["project"]),
            "classes": tuple(stored["classes"].tolist()),
            "measure_names": tuple(stored["measure_names"].tolist()),
        }
    )


def _describe_writer(version_dir: pathlib.Path) -> str:
    """Describes which version of this project wrote an export, for an error."""
    try:
        card = json.loads((version_dir / "model_card.json").read_text())
        project = card["project"]
        commit = f", commit {project['commit']}" if project["commit"] else ""
        return f"is of version {project['version']}{commit}"
    except (OSError, ValueError, KeyError, TypeError):
        return "does not say its version"
