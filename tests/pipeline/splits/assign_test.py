"""Assigns splits to audits that are made of names, without images."""

import collections

import pytest

from pipeline.audit.decide import Audit
from pipeline.inspection.image_report import ImageReport
from pipeline.sources.images import SourceImage
from pipeline.splits import splits_csv
from pipeline.splits.assign import SplitPlan, assign_splits


def make_audit(images, *, copies=()) -> Audit:
    """Makes an audit; images: (name, group, split of the source or None).

    The label is the folder in the name, the hash of the file is "hash of NAME".
    """
    reports = [
        ImageReport(
            SourceImage(name, name.split("/")[0], bytes, split=split),
            problem=None,
            file_hash=f"hash of {name}",
        )
        for name, _, split in images
    ]
    dropped = {name for names in copies for name in names[1:]}
    return Audit(
        readable=reports,
        usable=[r for r in reports if r.image.name not in dropped],
        group_of={name: group for name, group, _ in images if name not in dropped},
        rejected=[],
        copies=[list(names) for names in copies],
        near_duplicates=[],
        conflicts=[],
    )


def make_images(counts, *, split=None) -> list[tuple]:
    """Makes images of which each is a group; counts: label -> number."""
    return [
        (f"{label}/{index}", f"{label} {index}", split)
        for label, count in counts.items()
        for index in range(count)
    ]


def count_splits(split_of, label) -> tuple[int, ...]:
    counts = collections.Counter(
        split for name, split in split_of.items() if name.startswith(f"{label}/")
    )
    return counts["train"], counts["validation"], counts["test"]


def test_every_class_is_in_every_split_whatever_its_size():
    audit = make_audit(make_images({"a": 3, "b": 10, "c": 50}))
    (split_of,) = assign_splits(audit, SplitPlan()).splits_of_folds
    assert count_splits(split_of, "a") == (1, 1, 1)
    assert count_splits(split_of, "b") == (8, 1, 1)
    assert count_splits(split_of, "c") == (40, 5, 5)


def test_a_class_of_two_groups_is_an_error_that_names_it_or_is_left_out():
    images = [*make_images({"a": 10, "b": 10, "c": 2}), ("c/2", "c 1", None)]
    audit = make_audit(images)
    with pytest.raises(
        ValueError, match=r"'c' has none in validation and test \(3 images in 2 groups"
    ):
        assign_splits(audit, SplitPlan())
    dropped = assign_splits(audit, SplitPlan(small_classes="drop"))
    assert {report.image.label for report in dropped.audit.usable} == {"a", "b"}
    assert set(dropped.splits_of_folds[0]) == set(dropped.audit.group_of)
    assert dropped.notes == (
        "left out, too few images for every split: 'c' (3 images in 2 groups)",
    )
    with pytest.raises(ValueError, match="at least two classes with enough images"):
        assign_splits(
            make_audit(make_images({"a": 9, "c": 2})), SplitPlan(small_classes="drop")
        )


def test_an_error_names_at_most_five_classes():
    audit = make_audit(make_images({f"c{index:02d}": 2 for index in range(60)}))
    with pytest.raises(ValueError, match=r"'c04' has none.* and 55 more\. Add"):
        assign_splits(audit, SplitPlan())


def test_folds_have_equal_parts_and_a_small_class_is_in_each():
    audit = make_audit(make_images({"a": 5, "b": 23}))
    folds = assign_splits(audit, SplitPlan(num_folds=5)).splits_of_folds
    tested = collections.Counter()
    for split_of in folds:
        assert count_splits(split_of, "a") == (3, 1, 1)
        assert 4 <= count_splits(split_of, "b")[2] <= 5
        tested.update(name for name, split in split_of.items() if split == "test")
    assert set(tested.values()) == {1}
    assert set(tested) == set(audit.group_of)
    with pytest.raises(ValueError, match=r"at least 6 groups.*'a' has none in"):
        assign_splits(audit, SplitPlan(num_folds=6))


def test_what_the_source_does_not_split_off_is_cut_from_train():
    images = make_images({"a": 45, "b": 90}, split="train")
    images += [
        (f"{label}/t{i}", f"t{label}{i}", "test") for label in "ab" for i in "12"
    ]
    (split_of,) = assign_splits(make_audit(images), SplitPlan()).splits_of_folds
    assert count_splits(split_of, "a") == (40, 5, 2)
    assert count_splits(split_of, "b") == (80, 10, 2)


def test_groups_that_cross_the_sources_splits_are_counted_and_trained_on():
    images = [
        *make_images({"a": 5, "b": 5}, split="train"),
        *((f"{label}/v", f"v{label}", "validation") for label in "ab"),
        *((f"{label}/t", f"t{label}", "test") for label in "ab"),
        ("a/leak", "a 3", "test"),
    ]
    assigned = assign_splits(make_audit(images), SplitPlan())
    (split_of,) = assigned.splits_of_folds
    assert split_of["a/leak"] == split_of["a/3"] == "train"
    assert assigned.notes == (
        "1 groups of near duplicates cross the splits of the source, for example a/3, "
        "a/leak; they are all in train",
    )
    plan = SplitPlan(resplit=True)
    (resplit,) = assign_splits(make_audit(images), plan).splits_of_folds
    assert resplit["a/leak"] == resplit["a/3"]
    assert count_splits(resplit, "b") == (5, 1, 1)


def test_a_listed_image_keeps_its_split_beside_new_ones(tmp_path):
    audit = make_audit(make_images({"a": 20, "b": 20}))
    (before,) = assign_splits(audit, SplitPlan()).splits_of_folds
    path = tmp_path / "splits.csv"
    splits_csv.write_splits(path, audit, before)
    more = make_audit(make_images({"a": 40, "b": 25, "c": 3}))
    assigned = assign_splits(more, SplitPlan(splits_from=str(path), seed=7))
    (after,) = assigned.splits_of_folds
    assert {name: after[name] for name in before} == before
    assert count_splits(after, "c") == (1, 1, 1)
    assert assigned.notes == (
        f"40 images keep the splits of --splits_from={path}; 28 are new",
    )


def test_a_new_image_keeps_the_split_of_the_source(tmp_path):
    images = make_images({"a": 20, "b": 20})
    (before,) = assign_splits(make_audit(images), SplitPlan()).splits_of_folds
    path = tmp_path / "splits.csv"
    splits_csv.write_splits(path, make_audit(images), before)
    new = [(f"a/new{index}", f"new {index}", "test") for index in range(5)]
    plan = SplitPlan(splits_from=str(path))
    (after,) = assign_splits(make_audit([*images, *new]), plan).splits_of_folds
    assert {name: after[name] for name in before} == before
    assert {after[name] for name, _, _ in new} == {"test"}


def test_a_listed_image_keeps_its_split_renamed_or_as_a_copy(tmp_path):
    images = make_images({"a": 20, "b": 20})
    (before,) = assign_splits(make_audit(images), SplitPlan()).splits_of_folds
    renamed, copied = [name for name, split in before.items() if split == "test"][:2]
    path = tmp_path / "splits.csv"
    with open(path, "w") as file:
        file.write("name,sha256,split\n")
        for name, split in before.items():
            old_name = "before it was renamed" if name == renamed else name
            file.write(f"{old_name},hash of {name},{split}\n")
    # The name of the copy comes first, so that the listed image is left out.
    copy = f"{copied[0]}/0 copy"
    groups = {name: group for name, group, _ in images}
    audit = make_audit([*images, (copy, groups[copied], None)], copies=[(copy, copied)])
    plan = SplitPlan(splits_from=str(path), seed=7)
    (after,) = assign_splits(audit, plan).splits_of_folds
    assert after[renamed] == after[copy] == "test"
    del before[copied], after[copy]
    assert after == before


def test_no_new_refuses_any_other_images(tmp_path):
    audit = make_audit(make_images({"a": 20, "b": 20}))
    (before,) = assign_splits(audit, SplitPlan()).splits_of_folds
    path = tmp_path / "splits.csv"
    splits_csv.write_splits(path, audit, before)
    plan = SplitPlan(splits_from=str(path), allow_new=False, seed=9)
    assert assign_splits(audit, plan).splits_of_folds == [before]
    with pytest.raises(ValueError, match=r"that it does not name: 1 \(a/20\)\. L"):
        assign_splits(make_audit(make_images({"a": 21, "b": 20})), plan)


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.2, 0.0), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)]
)
def test_fractions_that_cannot_be_used_are_quoted(fractions):
    received = ",".join(str(fraction) for fraction in fractions)
    with pytest.raises(ValueError, match=f"Received: --splits={received}"):
        SplitPlan(fractions=fractions)


def test_other_mistakes_of_a_plan_are_quoted(tmp_path):
    with pytest.raises(ValueError, match="Received: --folds=2"):
        SplitPlan(num_folds=2)
    with pytest.raises(ValueError, match="Received: --folds=5 --splits_from=F"):
        SplitPlan(num_folds=5, splits_from="F")
    with pytest.raises(ValueError, match="--no_new needs --splits_from"):
        SplitPlan(allow_new=False)
    path = tmp_path / "splits.csv"
    path.write_text("name,split\na/1,holdout\n")
    with pytest.raises(ValueError, match="with the split 'holdout'"):
        splits_csv.read_splits(str(path))
