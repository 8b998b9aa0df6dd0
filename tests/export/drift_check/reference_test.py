import dataclasses
import json

import numpy as np
import pytest
from fakes.answers import make_answers

from export.drift_check import reference
from pipeline.system import versions

CLASSES = ("daisy", "<b>rosé</b>", "tulip")


def _make(count=20, **options):
    training = make_answers(200, seed=5).embeddings
    return reference.make_reference(make_answers(count, **options), training, CLASSES)


def test_the_file_holds_what_was_written(tmp_path):
    made = _make(with_scores=True)
    reference.write_reference(tmp_path, made)
    read = reference.read_reference(tmp_path)
    for field in dataclasses.fields(reference.Reference):
        expected, found = getattr(made, field.name), getattr(read, field.name)
        np.testing.assert_array_equal(found, expected, err_msg=field.name)
    assert read.classes == CLASSES
    assert read.project == versions.PROJECT_VERSION
    assert read.count == 20
    assert read.embeddings.dtype == np.float16
    assert [path.name for path in (tmp_path / "assets.extra").iterdir()] == [
        "reference.npz"
    ]


def test_the_reference_holds_one_of_near_duplicates_and_nothing_undecoded():
    answers = make_answers(20)
    answers.hashes[7] = answers.hashes[3]
    answers.decoded[11] = False
    made = reference.make_reference(answers, answers.embeddings, CLASSES)
    kept = [row for row in range(20) if row not in (7, 11)]
    assert made.class_ids.tolist() == answers.class_ids[kept].tolist()
    assert made.unknown_scores.shape == (0,)
    expected = made.reduce(answers.embeddings[kept])
    np.testing.assert_allclose(made.embeddings, expected, atol=2e-3)


def test_the_components_of_other_photographs_have_variance_1():
    rng = np.random.default_rng(0)
    scales = np.array([100.0, 1.0, 0.1, 0.01, 0.0])
    training, other = (rng.normal(3, 1, (4000, 5)) * scales for _ in range(2))
    center, projection = reference.fit_projection(training.astype(np.float32))
    # The variances of 0.0001 and 0 are below 0.00001 of the largest, and so is 0.01.
    assert projection.shape == (5, 2)
    reduced = (other - center) @ projection
    np.testing.assert_allclose(reduced.var(axis=0), 1, atol=0.1)


@pytest.mark.parametrize(
    ("count", "size", "expected"), [(400, 100, 64), (40, 100, 10), (2, 100, 1)]
)
def test_few_photographs_fit_few_components(count, size, expected):
    training = np.random.default_rng(0).normal(size=(count, size))
    assert reference.fit_projection(training)[1].shape == (size, expected)


def test_equal_embeddings_have_a_projection_of_numbers():
    center, projection = reference.fit_projection(np.ones((50, 3), np.float32))
    assert center.tolist() == [1, 1, 1]
    assert np.isfinite(projection).all()


def test_an_export_without_a_reference_names_the_version_that_writes_it(tmp_path):
    with pytest.raises(ValueError, match=r"this export does not say its version"):
        reference.read_reference(tmp_path)
    card = {"project": {"version": "0.1.0", "commit": "abc"}}
    (tmp_path / "model_card.json").write_text(json.dumps(card))
    message = (
        rf"{tmp_path} has no reference .*Exports of version 0\.3\.0 .* is of version "
        r"0\.1\.0, commit abc\. Export the run again"
    )
    with pytest.raises(ValueError, match=message):
        reference.read_reference(tmp_path)


def test_a_reference_of_a_later_format_is_refused(tmp_path):
    made = dataclasses.replace(_make(), format=3, project="9.0")
    reference.write_reference(tmp_path, made)
    with pytest.raises(
        ValueError, match=r"has format 3, .* up to 2: use version 9\.0,"
    ):
        reference.read_reference(tmp_path)


def test_a_reference_of_an_earlier_format_is_refused(tmp_path):
    reference.write_reference(tmp_path, dataclasses.replace(_make(), format=1))
    message = r"has format 1, which lacks the probabilities .* Export the run again"
    with pytest.raises(ValueError, match=message):
        reference.read_reference(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_reference_is_one_line(tmp_path, content):
    reference.write_reference(tmp_path, _make())
    path = tmp_path / reference.REFERENCE_FILE
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    with pytest.raises(ValueError, match="is damaged"):
        reference.read_reference(tmp_path)
