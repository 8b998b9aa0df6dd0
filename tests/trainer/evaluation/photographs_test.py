"""Tests that the report shows the right photographs, unchanged and named."""

import base64
import io

import fakes
import numpy as np
import pytest
from PIL import Image

from pipeline.loading import prepared_data
from trainer.evaluation import photographs

SIDE = 32


@pytest.fixture(scope="module")
def records(data_dir):
    return prepared_data.read_records(str(data_dir), "test")


@pytest.fixture(scope="module")
def names(records):
    return prepared_data.read_names(records)


def _decode(source: str) -> np.ndarray:
    head, data = source.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), np.float32)


def _find_original(records, name) -> np.ndarray:
    for example in records.dataset.as_numpy_iterator():
        if example["name"].decode() == name:
            image = Image.open(io.BytesIO(example["image_bytes"])).convert("RGB")
            return np.asarray(image.resize((SIDE, SIDE)), np.float32)
    raise AssertionError(name)


@pytest.mark.slow
def test_errors_are_shown_with_the_most_confident_first(records, names):
    labels = prepared_data.read_labels(records)
    probabilities = np.eye(len(fakes.CLASSES))[labels] * 0.8 + 0.1
    for position, confidence in ((4, 0.7), (2, 0.9)):
        probabilities[position] = 0.05
        probabilities[position, (labels[position] + 1) % 3] = confidence
    shown = photographs.show_errors(
        fakes.restore_classifier(),
        records,
        names,
        probabilities,
        labels,
        classes=fakes.CLASSES,
        image_size=SIDE,
    )
    assert [each.name for each in shown] == [names[2], names[4]]
    truth, guess = (fakes.CLASSES[(labels[2] + k) % 3] for k in (0, 1))
    assert shown[0].caption == f"{truth}, taken for {guess} (90%)"
    for each in shown:
        image, heat = map(_decode, each.sources)
        assert np.abs(image - _find_original(records, each.name)).mean() < 12
        assert image.shape == heat.shape == (SIDE, SIDE, 3)


def test_the_most_unusual_come_first(records, names):
    labels = prepared_data.read_labels(records)
    scores = np.arange(len(labels), dtype=np.float32)
    shown = photographs.show_unusual(
        records, names, scores, labels, classes=fakes.CLASSES, image_size=SIDE
    )
    assert [each.name for each in shown] == names[::-1][:8]
    assert shown[0].caption == f"{fakes.CLASSES[labels[-1]]}, score {scores[-1]:.1f}"


def test_augmented_images_differ_from_one_another(records):
    shown = photographs.show_augmented(
        records, classes=fakes.CLASSES, preset="strong", image_size=SIDE
    )
    assert len(shown) == 4
    for each in shown:
        original, *views = map(_decode, each.sources)
        assert np.abs(original - _find_original(records, each.name)).mean() < 12
        assert len({view.tobytes() for view in views}) == 4
