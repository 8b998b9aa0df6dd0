import dataclasses

from fakes.answers import make_answers, make_probabilities

from export.drift_check import comparison, reference, sentences


def _report(new, left_out=()):
    training = make_answers(200, seed=99).embeddings
    made = reference.make_reference(
        make_answers(100, seed=1), training, ("daisy", "\x1b[31mrose", "tulip")
    )
    names = [str(row) for row in range(len(new.decoded))]
    return comparison.compare(made, new, names, version="7", left_out=left_out)


def test_a_change_of_the_light_and_of_the_classes_is_said():
    new = make_answers(60, seed=2, shift=1.0)
    measures = new.measures.copy()
    measures[:, 0] /= 4
    probabilities = make_probabilities(new.class_ids * 0 + 1, new.confidences, 3)
    new = dataclasses.replace(new, probabilities=probabilities, measures=measures)
    report = _report(new)
    line = "drift found (p = 0.001, 60 new photographs against 100 of the reference)"
    assert sentences.headline(report, 0.01) == line
    changes = sentences.list_changes(report, 0.01)
    shares = {shift["name"]: shift["reference"] for shift in report["class_shares"]}
    share = shares["\x1b[31mrose"]
    missing = report["missing_class"]
    assert changes[0].startswith(
        f"{missing} is missing, or nearly: 0% of the new photographs are predicted as "
        f"{missing}, against {shares[missing]:.0%} of the reference (difference -"
    )
    assert sum(f"predicted as {missing}" in line for line in changes) == 1
    assert changes[1].startswith(
        r"100% of the new photographs are predicted as \x1b[31mrose, against "
        f"{share:.0%} of the reference (difference +"
    )
    (darker,) = [line for line in changes if "darker" in line]
    old, now = report["measures"][0]["reference"], report["measures"][0]["new"]
    assert f"the mean brightness is {now:.3g}, against {old:.3g}" in darker
    assert not [line for line in changes if "confidence" in line]


def test_a_tiny_p_value_is_no_row_of_digits():
    assert sentences.describe_p(0.0341) == "= 0.034"
    assert sentences.describe_p(0.0006) == "= 0.0006"
    assert sentences.describe_p(2.1e-9) == "< 0.0001"


def test_a_difference_that_only_the_model_sees_is_said_so():
    report = _report(make_answers(60, seed=2, shift=1.0))
    (line,) = sentences.list_changes(report, 0.01)
    assert line.startswith("they look different to the model, but not clearly in brig")


def test_nothing_is_said_of_differences_by_chance():
    report = _report(make_answers(40, seed=3))
    assert report["p"] > 0.01
    assert sentences.list_changes(report, 0.01) == []
    line = sentences.headline(report, 0.01)
    assert line.startswith("no drift found (p = ")
    assert line.endswith(
        "limit 0.01); fewer than 50 photographs show only large changes"
    )
    assert "fewer" not in sentences.headline(_report(make_answers(60, seed=3)), 0.01)


def test_what_is_not_compared_is_counted():
    new = make_answers(40, seed=3)
    new.hashes[5] = new.hashes[2]
    left_out = [comparison.LeftOut(name="a\x1b[31m.jpg", reason="empty file")]
    assert sentences.describe_counts(_report(new, left_out)) == [
        "not compared, because near duplicates of other new photographs: 1; a burst is "
        "no independent evidence",
        r"left out, because not readable: 1; the first is a\x1b[31m.jpg: empty file",
    ]
    assert sentences.describe_counts(_report(make_answers(40, seed=3))) == []
