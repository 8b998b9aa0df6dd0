"""Tests of the drawn things and of the training of the embedded weights."""

import keras
import numpy as np
import pytest

from pipeline.sources import drawn_flowers
from trainer.embedded.drawn_things import KINDS, draw_thing
from trainer.embedded.pretraining import draw_pictures, pretrain
from trainer.models import backbones


def test_no_kind_is_a_flower_of_the_sample():
    assert len(KINDS) == 52
    assert not set(KINDS) & set(drawn_flowers.CLASSES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_is_drawn_from_its_seed(kind):
    image = draw_thing(kind, 0, seed=3)
    assert image.mode == "RGB"
    assert min(image.size) >= 180
    assert max(image.size) <= 320
    pixels = np.asarray(image, np.float32)
    assert pixels.std() > 5
    np.testing.assert_array_equal(pixels, draw_thing(kind, 0, seed=3))
    assert image.tobytes() != draw_thing(kind, 0, seed=4).tobytes()


@pytest.mark.slow
def test_a_few_steps_write_weights_that_the_backbone_loads(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.embedded.pretraining._VALIDATION_PER_KIND", 1)
    images, labels = draw_pictures(2, seed=1)
    assert images.shape == (2 * len(KINDS), 108, 108, 3)
    assert labels.tolist() == [kind for kind in range(len(KINDS)) for _ in range(2)]
    path = str(tmp_path / "small.weights.h5")
    accuracy = pretrain(path, per_kind=1, epochs=1, batch_size=26, seed=1)
    assert 0 <= accuracy <= 1
    backbone = backbones.build_backbone("MobileNet", {"alpha": 0.25}, image_size=64)
    before = backbone.get_weights()
    backbones.load_weights(backbone, path)
    assert not np.array_equal(before[0], backbone.get_weights()[0])
    keras.backend.clear_session()
