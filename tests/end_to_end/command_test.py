"""The three commands as a user types them.

Those that do not end in a mistake run in forks; docs_commands_test.py and demo_test.py
start processes.
"""

import csv
import json
import pathlib

import fakes
import numpy as np
import pytest
from fakes import shallow_net


def _error_line(done) -> str:
    """The one line a mistake ends in; no stack trace."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> pathlib.Path:
    return fakes.write_folder(tmp_path_factory.mktemp("photos") / "p", per_class=30)


@pytest.fixture(scope="module")
def walked(photographs, tmp_path_factory) -> pathlib.Path:
    """What the three commands by hand leave behind."""
    base = tmp_path_factory.mktemp("walk")
    (photographs / "circle" / "notes.jpg").write_text("not an image")
    weights = base / "backbone.weights.h5"
    shallow_net.register()
    fakes.make_classifier("ShallowNet").backbone.save_weights(weights)
    steps = [
        ["pipeline.main", f"--source={photographs}", f"--out={base / 'data'}"],
        [
            "trainer.main",
            *fakes.SHALLOW_MODEL_FLAGS,
            f"--weights={weights}",
            f"--data_dir={base / 'data'}",
            f"--model_dir={base / 'run'}",
            "--head_epochs=2",
            "--finetune_epochs=3",
        ],
        [
            "export.main",
            f"--model_dir={base / 'run'}",
            f"--export_dir={base / 'export'}",
        ],
    ]
    done_steps = fakes.run_forked([(("-m", *arguments), None) for arguments in steps])
    for name, done in zip(("prepare", "train", "export"), done_steps, strict=True):
        (base / f"{name}.out").write_text(done.stdout)
        assert done.returncode == 0, done.stderr[-3000:]
    return base


@pytest.mark.slow
def test_the_run_directory_holds_what_is_promised(walked):
    run = walked / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["classes"] == list(fakes.CLASSES)
    assert summary["head"]["epochs"] == 2
    assert summary["finetune"]["epochs"] == 3
    assert summary["best_regime"] in ("head", "finetune")
    test = summary["test"]
    assert test["count"] == sum(
        count["test"]
        for count in json.loads((walked / "data" / "audit.json").read_text())[
            "classes"
        ].values()
    )
    low, high = test["ci95"]
    assert low <= test["accuracy"] <= high
    assert summary["config"]["freeze_layers"] == 9
    lines = [json.loads(s) for s in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(s["regime"], s["epoch"]) for s in lines] == [
        ("head", 1),
        ("head", 2),
        ("finetune", 1),
        ("finetune", 2),
        ("finetune", 3),
    ]
    # The regime starts from the head's best weights and keeps them if none is better.
    best = {
        name: max(s["val_accuracy"] for s in lines if s["regime"] in upto)
        for name, upto in (("head", ["head"]), ("finetune", ["head", "finetune"]))
    }
    for name, accuracy in best.items():
        assert summary[name]["val_accuracy"] == pytest.approx(accuracy)
    versions = json.loads((run / "config.json").read_text())["versions"]
    assert set(versions) >= {"tensorflow", "keras", "keras-cv"}
    assert list((run / "tensorboard" / "finetune").glob("events.*"))
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert page.count("data:image/jpeg;base64,") >= 4 * 5  # four images, four variants
    assert page.count("alt=") == page.count("<img ")
    assert 'src="http' not in page


@pytest.mark.slow
def test_the_screen_says_what_will_happen_and_what_happened(walked):
    assert (
        "left out, not an image: 1 (circle/notes.jpg)"
        in (walked / "prepare.out").read_text()
    )
    shown = (walked / "train.out").read_text()
    for words in (
        "1 replica",
        "float32 (set by --precision)",
        "batch     8 global",
        "9 of the backbone's 19 layers are frozen, up to conv_dw_2_bn",
        "(3,104 of them in the backbone)",
        "finetune 3/3",
        "report.html",
    ):
        assert words in shown


@pytest.mark.slow
def test_the_exports_are_the_trainers_predictions_on_the_test_split(
    walked, photographs, tmp_path
):
    from fakes.probe import PROBE

    with open(walked / "run" / "test_predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    paths = [str(photographs / row["name"]) for row in rows]
    expected = np.array([[float(row[c]) for c in fakes.CLASSES] for row in rows])
    jobs = []
    for export_dir in (walked / "run" / "export", walked / "export"):
        (version,) = export_dir.glob("[0-9]*")
        jobs.append(((str(script), str(version), *paths), None))
    for done in fakes.run_forked(jobs):
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
        # Folding may change one by 1e-5, and the file's digits are rounded.
        np.testing.assert_allclose(found["probabilities"], expected, atol=2e-5)
        assert found["label"] == [row["predicted"] for row in rows]


def test_help_shows_the_flags_without_loading_tensorflow():
    for module, flag in (
        ("pipeline.main", "--source"),
        ("trainer.main", "--freeze_layers"),
        ("export.main", "--export_dir"),
    ):
        done = fakes.run("-m", module, "--help", timeout_seconds=60)
        assert flag in done.stdout
        assert "tensorflow" not in done.stderr.lower()


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (["trainer.main", "--head_lr=-1"], "--head_lr=-1"),
        (["trainer.main", "--no_such_flag=1"], "no_such_flag"),
        (["trainer.main", "--batch_size=many"], "--batch_size=many"),
        (["export.serve"], "--export_dir is required"),
        (["export.client", "--protocol=http"], "<grpc|rest>"),
        (["pipeline.main", "--out=x"], "--source is required"),
        (["pipeline.main", "--source=x"], "--out is needed"),
        (["pipeline.main", "--source=x", "--out=y", "--shards=0"], "shards=0"),
        (["export.main", "--model_dir=x"], "--export_dir"),
        (["export.main", "--export_dir=x"], "--model_dir=None --rollback=False"),
    ],
)
def test_a_wrong_flag_ends_in_one_line(arguments, received):
    done = fakes.run("-m", *arguments, timeout_seconds=60)
    assert done.returncode == 1
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{arguments[0]}: error: ")
    assert received in line


# Command, its flags, and the part of the message that quotes them.
_MISTAKES = [
    ("pipeline.main", "--source=nowhere --out={out}", "--source=nowhere"),
    (
        "pipeline.main",
        "--source={photos} --out={out} --splits=1,2,x",
        "--splits=1,2,x",
    ),
    (
        "pipeline.main",
        "--source={photos} --out={out} --folds=3 --splits=0.8,0.1,0.1",
        "--folds=3 --splits=0.8,0.1,0.1",
    ),
    (
        "pipeline.main",
        "--source={photos} --out={out} --max_side_px=8 --min_side_px=16",
        "--max_side_px=8 --min_side_px=16",
    ),
    ("pipeline.main", "--source={photos} --out={photos}", "--out={photos}"),
    ("pipeline.main", "--source={photos} --out={file}/data", "--out={file}/data"),
    (
        "pipeline.main",
        "--source={photos} --out={out} --splits_from=nowhere.csv",
        "--splits_from=nowhere.csv",
    ),
    ("trainer.main", "photos", "photos"),
    ("trainer.main", "--pooling=median", "median"),
    ("trainer.main", "--data_dir={photos}", "--data_dir={photos}"),
    ("trainer.main", "--export_dir={file}", "--export_dir={file}"),
    ("trainer.main", "--cache_dir={file}/x", "--cache_dir={file}/x"),
    ("trainer.main", "--source=nowhere --weights=nowhere.h5", "--source=nowhere"),
    ("trainer.main", "--backbone=ResNet5", "--backbone=ResNet5"),
    ("trainer.main", "--freeze_layers=87", "--freeze_layers=87"),
    ("trainer.main", "--weights=nowhere.h5", "nowhere.h5"),
    ("trainer.main", "--virtual_devices=3 --batch_size=8", "--batch_size=8"),
    (
        "trainer.main",
        "--source={photos}/circle --freeze_layers=60",
        "--source={photos}/circle",
    ),
    ("trainer.main", "--source={photos} --weights=auto", "--weights=auto"),
    ("trainer.main", "--strategy=multi_worker", "TF_CONFIG=''"),
    ("export.main", "--model_dir={photos} --export_dir={out}", "{photos}"),
]


@pytest.mark.slow
def test_each_mistake_ends_in_one_line_and_leaves_nothing(photographs, tmp_path):
    commands, expected = [], []
    for number, (module, flags, received) in enumerate(_MISTAKES):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "file").touch()
        values = {name: str(directory / name) for name in ("out", "file")}
        values["photos"] = str(photographs)
        command = ["-m", module]
        if module == "trainer.main":
            command += [*fakes.TINY_MODEL_FLAGS, f"--model_dir={directory / 'run'}"]
        commands.append(command + flags.format(**values).split())
        expected.append(received.format(**values))
    before = sorted(photographs.rglob("*"))
    results = fakes.run_forked([(command, None) for command in commands])
    for number, (done, received) in enumerate(zip(results, expected, strict=True)):
        assert done.returncode == 1, done
        line = _error_line(done)
        assert line.startswith(f"{_MISTAKES[number][0]}: error: ")
        assert received in line
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["file"]
    assert sorted(photographs.rglob("*")) == before


@pytest.mark.slow
def test_a_run_is_never_overwritten(walked):
    done = fakes.run_fork(
        "-m",
        "trainer.main",
        f"--data_dir={walked / 'data'}",
        f"--model_dir={walked / 'run'}",
    )
    assert f"--model_dir={walked / 'run'}" in _error_line(done)
    assert (walked / "run" / "summary.json").is_file()


@pytest.mark.slow
def test_a_tfds_set_comes_with_its_own_splits_or_is_split_anew(
    photographs, tmp_path, monkeypatch
):
    first = tmp_path / "tfds" / "photographs" / "1.0.0"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    done = fakes.run_fork(
        "-m", "pipeline.main", f"--source={photographs}", f"--out={first}"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    flags = ("--noresplit", "--resplit")
    for flag in flags:
        # Not in a fork: tensorflow-datasets reads the variable when it is imported.
        out = f"--out={tmp_path / flag}"
        done = fakes.run("-m", "pipeline.main", "--source=tfds:photographs", out, flag)
        assert done.returncode == 0, done.stderr[-2000:]
    counts = {
        flag: json.loads((tmp_path / flag / "audit.json").read_text())["classes"]
        for flag in flags
    }
    own = json.loads((first / "audit.json").read_text())["classes"]
    assert counts["--noresplit"] == own
    # The content decides, and it is the same.
    assert counts["--resplit"] == own
    with open(tmp_path / "--noresplit" / "splits.csv", newline="") as file:
        for row in csv.DictReader(file):
            assert row["name"].startswith(f"{row['label']}/{row['split']}-")
