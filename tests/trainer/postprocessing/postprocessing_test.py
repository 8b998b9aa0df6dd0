import dataclasses

import numpy as np
import pytest
from scipy import special

from trainer.postprocessing import postprocessing
from trainer.postprocessing.unknown import fit_scorer


def _fit(**settings):
    rng = np.random.default_rng(4)
    embeddings = rng.normal(size=(60, 8)).astype("f4")
    logits = embeddings[:, :3] * 3
    labels = np.where(rng.random(60) < 0.8, logits.argmax(axis=1), 0)
    fitted = postprocessing.fit_postprocessing(
        logits,
        rng.normal(size=60).astype("f4"),
        labels,
        scorer=fit_scorer(embeddings, logits),
        **{"calibrated": True, "coverage": 0.9, "unknown_rate": 0.05, **settings},
    )
    return fitted, embeddings, logits


def test_a_reply_holds_what_the_constants_say():
    fitted, embeddings, logits = _fit()
    reply = postprocessing.make_reply(fitted, logits, embeddings)
    wanted = special.softmax(logits / fitted.temperature, axis=1)
    probabilities = reply["probabilities"].numpy()
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    in_set = probabilities >= fitted.min_set_probability
    in_set[np.arange(60), wanted.argmax(axis=1)] = True
    np.testing.assert_array_equal(reply["in_set"], in_set)
    np.testing.assert_array_equal(
        reply["is_unknown"], reply["unknown_score"] > fitted.unknown_threshold
    )


def test_every_set_holds_the_likeliest_class():
    fitted, embeddings, logits = _fit()
    strict = dataclasses.replace(fitted, min_set_probability=1.1)
    sets = postprocessing.make_reply(strict, logits, embeddings)["in_set"].numpy()
    np.testing.assert_array_equal(sets.argmax(axis=1), logits.argmax(axis=1))
    assert (sets.sum(axis=1) == 1).all()


def test_without_calibration_the_temperature_is_one():
    assert _fit(calibrated=False)[0].temperature == 1.0
    assert _fit()[0].temperature != 1.0


def test_what_is_written_is_read(tmp_path):
    fitted, embeddings, logits = _fit()
    postprocessing.write(tmp_path / "a.npz", fitted)
    read = postprocessing.read(tmp_path / "a.npz")
    for name, values in postprocessing.make_reply(fitted, logits, embeddings).items():
        again = postprocessing.make_reply(read, logits, embeddings)[name]
        np.testing.assert_array_equal(again, values)
    assert read.val_count == 60


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    postprocessing.write(tmp_path / "a.npz", _fit()[0])
    monkeypatch.setattr(postprocessing, "FORMAT", 1)
    with pytest.raises(ValueError, match="up to format 1"):
        postprocessing.read(tmp_path / "a.npz")


def test_an_older_format_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(postprocessing, "FORMAT", 1)
    postprocessing.write(tmp_path / "a.npz", _fit()[0])
    monkeypatch.setattr(postprocessing, "FORMAT", 2)
    with pytest.raises(ValueError, match=r"of format 1\. .*delete this file"):
        postprocessing.read(tmp_path / "a.npz")


@pytest.mark.parametrize("case", ["two classes", "200 classes", "one image", "right"])
def test_unusual_validation_splits_give_finite_constants(case):
    rng = np.random.default_rng(5)
    num_classes = {"two classes": 2, "200 classes": 200}.get(case, 3)
    count = {"one image": 1, "200 classes": 200}.get(case, 40)
    logits = rng.normal(size=(count, num_classes)).astype("f4")
    labels = rng.integers(0, num_classes, count)
    if case == "right":
        labels = logits.argmax(axis=1)
    embeddings = rng.normal(size=(count, 8)).astype("f4")
    fitted = postprocessing.fit_postprocessing(
        logits,
        rng.normal(size=count).astype("f4"),
        labels,
        scorer=fit_scorer(embeddings, logits),
        calibrated=True,
        coverage=0.9,
        unknown_rate=0.05,
    )
    assert 0.05 <= fitted.temperature <= 20
    assert 0 <= fitted.min_set_probability <= 1
    reply = postprocessing.make_reply(fitted, logits, embeddings)
    assert np.isfinite(reply["probabilities"]).all()
    assert np.isfinite(reply["unknown_score"]).all()
    assert reply["in_set"].numpy().any(axis=1).all()
    if case == "one image":
        assert reply["in_set"].numpy().all()
