from trainer.comparison.run_results import read_runs
from trainer.comparison.settings import Setting, differing_settings
from trainer.config.recipes import RECIPES

ANSWERS = {"1.jpg": ("rose", "rose"), "2.jpg": ("daisy", "tulip")}
FLAGS = {
    **{"model_dir": "runs/a", "data_dir": "DATA", "recipe": "best"},
    **{"head_units": 0, "regimes": ["head", "finetune"], "seed": 1, "head_lr": 0.01},
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


def test_old_spellings_and_the_recipe_of_old_runs_are_no_difference(make_run):
    new = {name: FLAGS[name] for name in ("model_dir", "data_dir")}
    old = new | {"augment": "notebook", "fold_frozen": True}
    new |= {"recipe": "notebook", **RECIPES["notebook"], "fuse_batch_norm": True}
    new["augment"] = "basic"
    assert _differences(make_run, {"flags": old}, {"flags": new}) == []


def test_a_flag_that_one_version_does_not_have_is_a_difference(make_run):
    new = FLAGS | {"calibration": "temperature"}
    assert _differences(make_run, {"flags": FLAGS}, {"flags": new}) == [
        Setting("--calibration", "", "temperature")
    ]


def test_flags_of_another_version_are_compared_as_they_are(make_run):
    first = {"flags": FLAGS | {"head_units": -1, "later": [1, True]}}
    second = {"flags": FLAGS | {"later": None}}
    assert _differences(make_run, first, second) == [
        Setting("--head_units", "-1", "0"),
        Setting("--later", "1,true", ""),
    ]
