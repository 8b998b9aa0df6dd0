from trainer.comparison.run_results import read_runs
from trainer.comparison.settings import Setting, differing_settings

ANSWERS = {"1.jpg": ("rose", "rose"), "2.jpg": ("daisy", "tulip")}
FLAGS = {
    **{"model_dir": "runs/a", "data_dir": "DATA", "recipe": "best"},
    **{"head_units": 0, "regimes": ["head", "finetune"], "backbone_args": {}},
}


def _differences(make_run, first, second):
    paths = [
        make_run(name, ANSWERS, config=config)
        for name, config in (("a", first), ("b", second))
    ]
    return differing_settings(*read_runs(paths))


def test_only_settings_that_differ_are_listed(make_run):
    other = FLAGS | {
        "model_dir": "runs/b",
        "data_dir": "OTHER",
        "regimes": ["head"],
        "seed": 7,
    }
    first = {"flags": FLAGS, "precision": "float32", "python": "3.11.7"}
    second = {"flags": other, "precision": "mixed_bfloat16", "python": "3.11.7"}
    assert _differences(make_run, first, second) == [
        Setting("--regimes", "head,finetune", "head"),
        Setting("--seed", "1", "7"),
        Setting("precision", "float32", "mixed_bfloat16"),
    ]


def test_data_versions_and_a_chosen_head_are_settings(make_run):
    first = {
        "flags": FLAGS,
        "data": {"counts": {"train": 80, "test": 10}, "splits_sha256": "ab" * 32},
        "versions": {"keras": "3.15.0"},
        "project": {"version": "0.2.0", "commit": None},
    }
    second = first | {
        "data": {"counts": {"train": 90, "test": 10}, "splits_sha256": "cd" * 32},
        "versions": {"keras": "3.15.1"},
        "project": {"version": "0.2.0", "commit": "1234"},
        "search": {"chosen": {"head_lr": 0.5}},
    }
    assert _differences(make_run, first, second) == [
        Setting("--head_lr", "0.01", "0.5"),
        Setting("train images", "80", "90"),
        Setting("SHA-256 of splits.csv", "ab" * 6, "cd" * 6),
        Setting("commit of this project", "", "1234"),
        Setting("keras", "3.15.0", "3.15.1"),
    ]


def test_old_spellings_and_missing_flags_are_no_difference(make_run):
    old = {name: value for name, value in FLAGS.items() if name != "backbone_args"}
    old["augment"] = "notebook"
    new = FLAGS | {"augment": "basic", "label_smoothing": 0.1}
    assert _differences(make_run, {"flags": old}, {"flags": new}) == []


def test_flags_of_another_version_are_compared_as_they_are(make_run):
    first = {"flags": FLAGS | {"head_units": -1, "later": [1, True]}}
    second = {"flags": FLAGS | {"later": None}}
    assert _differences(make_run, first, second) == [
        Setting("--head_units", "-1", "0"),
        Setting("--later", "1,true", ""),
    ]
