"""Defines the content of model_card.json."""

from typing import Any, TypedDict

from export.version.reduced_precision import MeasuredAccuracy
from trainer.evaluation.reliability import Reliability


class Model(TypedDict):
    """The network. regime: the training regime whose best weights are served."""

    backbone: str
    backbone_args: dict[str, Any]
    initial_weights: str
    regime: str
    precision: str


class Data(TypedDict, total=False):
    """The training data. Without the prepared data there are only two keys.

    images: number of images of each split; None without the prepared data.
    images_per_class: class -> split -> number of images.
    left_out: images that the audit left out, as in audit.json.
    """

    source: str | None
    seed: int
    images: dict[str, int] | None
    images_per_class: dict[str, dict[str, int]]
    left_out: Any


class Metrics(TypedDict):
    """Metrics of the best weights, measured in float32, by the names of summary.json.

    served_precision: the accuracy as served; None if it is served in float32.
    """

    validation: dict[str, Any]
    test: dict[str, Any]
    served_precision: MeasuredAccuracy | None


class Preprocessing(TypedDict):
    """The images that the model accepts, and what the graph does with them.

    background, sample_bits: how the training images were stored; see StoredForm.
    """

    formats: list[str]
    image_size: int
    colour: str
    resize: str
    exif_orientation: str
    transparency: str
    background: str
    sample_bits: int
    max_pixels: int


class ModelCard(TypedDict):
    """The content of model_card.json.

    format: number of this schema; it grows if a key changes its meaning.
    created: UTC, ISO 8601.
    reliability: of summary.json: calibration, prediction sets and unknown images, with
      intervals, on the test split.
    classes: in the order of the probabilities.
    versions: package -> version.
    project: version and commit of this project.
    licence: of the model, the initial weights and the data.
    """

    format: int
    created: str
    classes: list[str]
    model: Model
    data: Data
    metrics: Metrics
    reliability: Reliability
    preprocessing: Preprocessing
    warmed_up_batch_sizes: list[int]
    versions: dict[str, str]
    project: dict[str, str | None]
    licence: dict[str, str]
