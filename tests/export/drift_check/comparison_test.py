import dataclasses

import pytest
from fakes.answers import make_answers, make_probabilities
from scipy import stats

from export.drift_check import comparison, reference, two_sample

CLASSES = ("daisy", "rose", "tulip")


def _make_reference(answers):
    training = make_answers(200, seed=99, size=answers.embeddings.shape[1]).embeddings
    return reference.make_reference(answers, training, CLASSES)


def _compare(old, new, left_out=()):
    names = [f"{row}.jpg" for row in range(len(new.decoded))]
    return comparison.compare(
        _make_reference(old), new, names, version="EXPORT/7", left_out=left_out
    )


def test_moved_embeddings_are_found_and_only_they():
    report = _compare(make_answers(80, seed=1), make_answers(40, seed=2, shift=1.0))
    assert report["single_tests"]["embedding"] == 1 / (1 + two_sample.PERMUTATIONS)
    assert report["p"] == report["tests"]["embedding"] == pytest.approx(5 / 5000)
    assert report["tests"]["class_shares"] > 0.05
    assert report["tests"]["confidence"] > 0.05
    assert list(report["tests"]) == [
        *("embedding", "appearance", "class_shares", "missing_class", "confidence")
    ]
    assert report["version"] == "EXPORT/7"


def test_a_missing_class_is_found_by_the_shares():
    old, new = make_answers(200, seed=1), make_answers(100, seed=2)
    probabilities = make_probabilities(new.class_ids % 2, new.confidences, 3)
    report = _compare(old, dataclasses.replace(new, probabilities=probabilities))
    assert report["tests"]["class_shares"] <= 0.001
    assert report["tests"]["missing_class"] == pytest.approx(5 / 5000)
    assert report["missing_class"] == "tulip"
    shares = {shift["name"]: shift for shift in report["class_shares"]}
    tulip = shares["tulip"]
    assert tulip["new"] == 0
    assert tulip["counts"] == [int((old.class_ids == 2).sum()), 0]
    assert tulip["ci95"][1] < 0
    differences = [abs(shift["difference"]) for shift in report["class_shares"]]
    assert differences == sorted(differences, reverse=True)


def test_dark_photographs_are_found_by_their_appearance():
    new = make_answers(40, seed=2)
    new.measures[:, 0] /= 3
    report = _compare(make_answers(80, seed=1), new)
    assert report["tests"]["appearance"] == pytest.approx(5 / 5000)
    assert report["tests"]["embedding"] > 0.05


def test_a_lower_confidence_is_found():
    old, new = make_answers(100, seed=1), make_answers(60, seed=2)
    confidences = 0.34 + (new.confidences - 0.34) / 3
    probabilities = make_probabilities(new.class_ids, confidences, 3)
    report = _compare(old, dataclasses.replace(new, probabilities=probabilities))
    assert report["tests"]["confidence"] < 0.001
    assert report["confidence"]["ci95"][1] < 0


def test_unchanged_answers_are_rarely_called_drift(monkeypatch):
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 199)
    alarms = 0
    for seed in range(100):
        reference, new = make_answers(40, seed=seed), make_answers(20, seed=1000 + seed)
        p_values = comparison.run_tests(_make_reference(reference), new)
        alarms += min(two_sample.adjust_holm(p_values).values()) < 0.05
    # A rate of 0.05 gives more alarms for at most 0.0001 of all seeds.
    assert stats.binomtest(alarms, 100, 0.05, "greater").pvalue > 1e-4


@pytest.mark.parametrize("old_has", [True, False])
@pytest.mark.parametrize("new_has", [True, False])
def test_unknown_scores_are_compared_if_both_sides_have_them(old_has, new_has):
    new = make_answers(40, seed=2, with_scores=new_has)
    if new_has:
        new = dataclasses.replace(new, unknown_scores=new.unknown_scores + 3)
    report = _compare(make_answers(80, seed=1, with_scores=old_has), new)
    if old_has and new_has:
        assert report["tests"]["unknown_score"] < 0.001
        assert report["unknown_score"]["difference"] == pytest.approx(3, abs=0.5)
    else:
        assert "unknown_score" not in report["tests"]
        assert report["unknown_score"] is None


def test_the_farthest_photographs_come_first():
    new = make_answers(40, seed=2)
    new.embeddings[13] += 50
    new.embeddings[4] += 20
    unusual = _compare(make_answers(80, seed=1), new)["unusual"]
    assert len(unusual) == 24
    assert [row["name"] for row in unusual[:2]] == ["13.jpg", "4.jpg"]
    assert unusual[0]["label"] == CLASSES[new.class_ids[13]]
    assert unusual[0]["probability"] == pytest.approx(float(new.confidences[13]))
    distances = [row["distance"] for row in unusual]
    assert distances == sorted(distances, reverse=True)


def test_near_duplicates_count_once():
    new = make_answers(40, seed=2)
    new.hashes[20:30] = new.hashes[0]
    new.embeddings[20:30] += 100
    left_out = [comparison.LeftOut(name="a", reason="empty file")]
    report = _compare(make_answers(80, seed=1), new, left_out)
    assert report["photographs"] == {
        "reference": 80,
        "compared": 30,
        "near_duplicates": 10,
        "left_out": 1,
    }
    names = {row["name"] for row in report["unusual"]}
    assert not names & {f"{row}.jpg" for row in range(20, 30)}
    assert report["left_out"] == left_out


def test_too_few_photographs_are_refused_with_the_number_that_would_do():
    message = r"At least 10 photographs .* Received: 9 that can be compared, 0 near"
    with pytest.raises(ValueError, match=message):
        _compare(make_answers(80), make_answers(9, seed=2))
    with pytest.raises(
        ValueError, match=r"EXPORT/7 holds 9 validation photographs; at"
    ):
        comparison.check_size(_make_reference(make_answers(9)), "EXPORT/7")
    comparison.check_size(_make_reference(make_answers(10)), "EXPORT/7")


@pytest.mark.parametrize("options", [{"size": 9}, {"classes": 4}])
def test_the_answers_of_another_model_are_refused(options):
    with pytest.raises(ValueError, match="The reference belongs to another model"):
        _compare(make_answers(80), make_answers(20, **options))
