import concurrent.futures
import dataclasses
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import fakes
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from serving_test import photograph

from export.checks.graph_checks import read_meta_graph
from export.checks.run_checks import answer_outside_python
from export.export_run import export_run
from export.protocol import messages
from export.version import publish, server_files
from export.version.reduced_precision import predict_probabilities
from export.version.write import write_saved_model
from pipeline import prepare
from pipeline.system import files
from trainer.config.flags import define_flags, from_flags
from trainer.training import run_dir

PROBE = """
import json, sys
sys.modules["keras"] = None  # TensorFlow would import it by itself where it is there
import tensorflow as tf
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
images = [open(path, "rb").read() for path in sys.argv[2:]]
found = signature(image_bytes=tf.constant(images))
print(json.dumps({
    "forbidden": sorted({"pipeline", "trainer", "export"} & set(sys.modules)),
    "probabilities": found["probabilities"].numpy().tolist(),
    "class_id": found["class_id"].numpy().tolist(),
    "label": [label.decode() for label in found["label"].numpy()],
}))
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> pathlib.Path:
    base = tmp_path_factory.mktemp("data")
    prepare.prepare(
        str(fakes.write_folder(base / "photos", per_class=30)), str(base / "data")
    )
    return base / "data"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir) -> pathlib.Path:
    """A run with random weights, as trainer.main leaves it."""
    base = tmp_path_factory.mktemp("export") / "run"
    values = flags.FlagValues()
    define_flags(values)
    values(["p", *fakes.TINY_MODEL_FLAGS, f"--data_dir={data_dir}", "--regimes=head"])
    settings = from_flags(values)
    base.mkdir()
    files.write_json(
        base / run_dir.CONFIG_FILE, {"flags": dataclasses.asdict(settings)}
    )
    figures = {"accuracy": 0.5, "ci95": [0.3, 0.7], "count": 12, "loss": 1.0}
    files.write_json(
        base / run_dir.SUMMARY_FILE,
        {
            "classes": fakes.CLASSES,
            "best_regime": "head",
            "export": None,
            "test": figures
            | {
                "per_class": {
                    name: {"precision": 0.5, "recall": 0.25, "f1": 0.3, "count": 4}
                    for name in fakes.CLASSES
                }
            },
            "head": {f"val_{name}": value for name, value in figures.items()},
        },
    )
    classifier = fakes.make_classifier()
    # Random weights magnify rounding; probabilities as calm as a trained model's.
    kernel = classifier.head.get_layer("logits").kernel
    kernel.assign(kernel * 0.2)
    run_dir.save_best_weights(classifier, base, "head")
    return base


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory) -> pathlib.Path:
    base = tmp_path_factory.mktemp("exported") / "export"
    return pathlib.Path(export_run(str(run_dir), str(base)))


def _restore(run_dir):
    settings, classes, regime = run_dir.read_run(run_dir)
    return run_dir.restore_classifier(settings, classes, run_dir, regime)


@pytest.mark.slow
def test_a_process_without_keras_or_this_project_gets_the_models_probabilities(
    run_dir, exported, tmp_path
):
    paths = []
    for index in range(3):
        paths.append(tmp_path / f"{index}.jpg")
        paths[-1].write_bytes(photograph(index))
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    done = fakes.run(str(script), str(exported), *map(str, paths))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["forbidden"] == []
    wanted = predict_probabilities(
        _restore(run_dir), [path.read_bytes() for path in paths], image_size=32
    )
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-5)
    assert found["class_id"] == wanted.argmax(axis=1).tolist()
    assert found["label"] == [fakes.CLASSES[k] for k in found["class_id"]]


def test_batch_norm_is_folded_away_and_weights_are_stored_once(run_dir, exported):
    graph = read_meta_graph(exported).graph_def
    operations = {n.op for f in graph.library.function for n in f.node_def}
    assert "Conv2D" in operations
    assert not {name for name in operations if "BatchNorm" in name}
    stored = exported / "variables" / "variables.data-00000-of-00001"
    weights = sum(w.numpy().nbytes for w in _restore(run_dir).model.weights)
    # Each batch norm's four vectors became one bias.
    assert 0.9 * weights < stored.stat().st_size < weights


def test_what_lies_beside_a_version(exported, data_dir):
    assert (exported / "labels.txt").read_text() == "circle\nsquare\nstripe\n"
    described = json.loads((exported / "model_card.json").read_text())
    audit = json.loads((data_dir / "audit.json").read_text())
    assert described["classes"] == list(fakes.CLASSES)
    assert described["data"]["images_per_class"] == audit["classes"]
    assert sum(described["data"]["images"].values()) == 90
    assert described["metrics"]["test"]["ci95"] == [0.3, 0.7]
    assert described["metrics"]["validation"]["count"] == 12
    assert described["preprocessing"]["image_size"] == 32
    assert described["versions"]["tensorflow"] == tf.__version__
    assert set(described["licence"]) == {"model", "initial_weights", "data"}
    page = (exported / "model_card.md").read_text()
    assert "| test | 12 | 0.500 | 0.300 to 0.700 |" in page
    assert "| circle | 0.500 | 0.250 | 4 |" in page
    for image_class, count in audit["classes"].items():
        row = " | ".join(str(count[split]) for split in ("train", "validation", "test"))
        assert f"| {image_class} | {row} |" in page


def test_versions_are_integers_that_grow_and_the_summary_names_the_newest(
    run_dir, exported, tmp_path, monkeypatch
):
    monkeypatch.setattr(gates, "run_gates", lambda *_: 0.0)
    export_dir = tmp_path / "export"
    (export_dir / "not-a-version").mkdir(parents=True)
    (export_dir / "99999999999").mkdir()
    version = export_run(str(run_dir), str(export_dir))
    assert pathlib.Path(version).name == "100000000000"
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["export"] == version
    before = int(time.time())
    fresh = export_run(str(run_dir), str(tmp_path / "fresh"))
    assert before <= int(pathlib.Path(fresh).name) <= int(time.time())
    hidden = [p.name for p in (tmp_path / "fresh").iterdir() if p.name[0] == "."]
    assert hidden == []


def test_what_fails_a_gate_is_not_published(run_dir, tmp_path, monkeypatch):
    write = write_saved_model

    def break_labels(folder, classifier, classes, *, image_size):
        write(folder, classifier, classes[::-1], image_size=image_size)

    monkeypatch.setattr(saved_model, "write_saved_model", break_labels)
    with pytest.raises(ValueError, match="labels do not belong"):
        export_run(str(run_dir), str(tmp_path / "export"))
    assert list((tmp_path / "export").iterdir()) == []


def test_a_disk_that_is_full_is_said_and_nothing_is_left(
    run_dir, tmp_path, monkeypatch
):
    def fail(_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(saved_model.warmup, "write_warmup", fail)
    with pytest.raises(OSError, match="No space left on device"):
        export_run(str(run_dir), str(tmp_path / "export"))
    assert list((tmp_path / "export").iterdir()) == []


def test_folding_that_changes_too_much_is_left(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(saved_model, "_FOLDING_TOLERANCE", -1.0)
    version = pathlib.Path(export_run(str(run_dir), str(tmp_path)))
    assert "batch norm stays where it is" in capsys.readouterr().out
    stored = version / "variables" / "variables.data-00000-of-00001"
    weights = sum(w.numpy().nbytes for w in _restore(run_dir).model.weights)
    assert stored.stat().st_size > weights


def test_bfloat16_says_what_it_costs_and_has_half_the_bytes(
    run_dir, exported, tmp_path, capsys
):
    version = pathlib.Path(
        export_run(
            str(run_dir), str(tmp_path), precision="bfloat16", max_accuracy_drop=1.0
        )
    )
    out = capsys.readouterr().out
    assert "in float32" in out
    assert "in bfloat16" in out
    name = "variables/variables.data-00000-of-00001"
    halved = (version / name).stat().st_size / (exported / name).stat().st_size
    assert 0.5 < halved < 0.6
    measured = json.loads((version / "model_card.json").read_text())["metrics"]
    served = measured["served_precision"]
    assert f"{served['served']:.4f} in bfloat16" in out
    test_count = json.loads((version / "model_card.json").read_text())["data"]
    assert served["count"] == test_count["images"]["test"]


def test_bfloat16_is_refused_where_it_costs_too_much(run_dir, tmp_path, monkeypatch):
    measured = {"float32": 0.9, "served": 0.88, "count": 100}
    monkeypatch.setattr(saved_model, "_measure_accuracy", lambda *_: measured)
    with pytest.raises(
        ValueError, match=r"--max_accuracy_drop=0.01, and it costs 0.02"
    ):
        export_run(str(run_dir), str(tmp_path / "e"), precision="bfloat16")
    assert not (tmp_path / "e").exists()


def test_bfloat16_needs_data_to_measure_on(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "_find_data", lambda *_: None)
    with pytest.raises(ValueError, match="the prepared data is gone"):
        export_run(str(run_dir), str(tmp_path / "e"), precision="bfloat16")


def test_a_directory_that_is_no_finished_run_is_quoted(tmp_path):
    with pytest.raises(ValueError, match=f"Received: --model_dir={tmp_path}"):
        export_run(str(tmp_path), str(tmp_path / "export"))
    assert list(tmp_path.iterdir()) == []


def _candidates(base, count):
    base.mkdir()
    for index in range(count):
        candidate = base / f".next.tmp-{index}" / "saved_model"
        candidate.mkdir(parents=True)
        (candidate / "saved_model.pb").write_text(str(index))
        yield candidate


def test_exporters_at_once_get_versions_of_their_own(tmp_path):
    base = tmp_path / "export"
    candidates = list(_candidates(base, 12))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        publish = lambda one: publish.publish(one, base, keep=None)  # noqa: E731
        versions = list(pool.map(publish, candidates))
    assert len(set(versions)) == 12
    found = {(version / "saved_model.pb").read_text() for version in versions}
    assert found == {str(index) for index in range(12)}
    newest = max(int(version.name) for version in versions)
    assert f'key: "stable" value: {newest}' in (base / "models.config").read_text()


def test_keep_and_roll_back(tmp_path, monkeypatch):
    base = tmp_path / "export"
    seen = []

    def look(seconds):
        """What a server that now reads the labels finds."""
        assert seconds > server_files.CONFIG_POLL_SECONDS
        text = (base / "models.config").read_text()
        labels = [int(number) for number in re.findall(r'" value: (\d+)', text)]
        seen.append((labels, publish.list_versions(base)))

    monkeypatch.setattr(saved_model.time, "sleep", look)
    candidates = _candidates(base, 4)
    versions = [int(publish.publish(one, base, keep=2).name) for one in candidates]
    assert publish.list_versions(base) == versions[1:]
    assert publish.roll_back(str(base)) == str(base / str(versions[2]))
    assert publish.list_versions(base) == versions[1:3]
    config_text = (base / "models.config").read_text()
    assert f'key: "stable" value: {versions[2]}' in config_text
    assert f'key: "previous" value: {versions[1]}' in config_text
    # No label names a version that is to go, or that is not loaded yet.
    assert seen == [([versions[2]], versions[1:])]
    publish.roll_back(str(base))
    with pytest.raises(ValueError, match="--rollback needs two versions"):
        publish.roll_back(str(base))
    assert publish.list_versions(base) == versions[1:2]
    again = next(_candidates(tmp_path / "other", 1))
    assert int(publish.publish(again, base, keep=0).name) > versions[3]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--model_dir=RUN", "--rollback"], "Either --model_dir=RUN"),
        ([], "Either --model_dir=RUN"),
        (["--rollback"], "No such directory. Received: --export_dir="),
        (["--model_dir=nowhere"], "Received: --model_dir=nowhere"),
        (["--model_dir=RUN", "--keep=-1"], "--keep"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, problem):
    done = fakes.run(
        "-m", "export.main", f"--export_dir={tmp_path / 'none'}", *arguments
    )
    assert done.returncode != 0
    assert problem in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_kill_9_leaves_whole_versions_or_none(run_dir, tmp_path):
    export_dir = tmp_path / "export"
    command = [sys.executable, "-m", "export.main", f"--model_dir={run_dir}"]
    command.append(f"--export_dir={export_dir}")
    start = time.monotonic()
    subprocess.run(command, cwd=fakes.REPOSITORY, check=True, capture_output=True)
    seconds = time.monotonic() - start
    rng = random.Random(1)
    for attempt in range(5):
        process = subprocess.Popen(
            command,
            cwd=fakes.REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Loading TensorFlow takes the first third; the last moments are the dear ones.
        time.sleep(seconds * (rng.uniform(0.4, 0.9) if attempt else 0.95))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _check_versions(export_dir)
    subprocess.run(command, cwd=fakes.REPOSITORY, check=True, capture_output=True)
    _check_versions(export_dir)
    assert [p.name for p in export_dir.iterdir() if p.name.startswith(".next")] == []


def _check_versions(export_dir):
    versions = publish.list_versions(export_dir)
    assert versions
    for version in versions:
        answered = answer_outside_python(export_dir / str(version), [])
        assert answered["warmed_up"] == 30
        assert (export_dir / str(version) / "model_card.md").is_file()
    assert (export_dir / str(version) / messages.WARMUP_FILE).is_file()
