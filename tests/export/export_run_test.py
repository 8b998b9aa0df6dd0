import json
import pathlib
import time

import fakes
import numpy as np
import pytest
import tensorflow as tf
from fakes.image_files import photograph
from fakes.probe import PROBE
from tensorflow.python.eager import context

from export import export_run
from export.checks.graph_checks import read_meta_graph
from export.version import folding, reduced_precision, write
from trainer.postprocessing import postprocessing


@pytest.mark.slow
def test_a_process_without_keras_or_this_project_gets_the_models_probabilities(
    restored, trained_run, exported, tmp_path
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
    expected = folding.predict_replies(
        restored,
        postprocessing.read(trained_run / postprocessing.FILE),
        [path.read_bytes() for path in paths],
        image_size=32,
    )["probabilities"]
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert found["class_id"] == expected.argmax(axis=1).tolist()
    assert found["label"] == [fakes.CLASSES[k] for k in found["class_id"]]


@pytest.mark.slow
def test_batch_norm_is_folded_away_and_weights_are_stored_once(restored, exported):
    graph = read_meta_graph(exported).graph_def
    operations = {n.op for f in graph.library.function for n in f.node_def}
    assert "Conv2D" in operations
    assert not {name for name in operations if "BatchNorm" in name}
    stored = exported / "variables" / "variables.data-00000-of-00001"
    weights = sum(w.numpy().nbytes for w in restored.model.weights)
    # Each batch norm's four vectors became one bias.
    assert 0.9 * weights < stored.stat().st_size < weights


@pytest.mark.slow
def test_versions_are_integers_that_grow_and_the_summary_names_the_newest(
    shallow_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(export_run, "check_export", lambda *_: 0.0)
    export_dir = tmp_path / "export"
    (export_dir / "not-a-version").mkdir(parents=True)
    (export_dir / "99999999999").mkdir()
    version = export_run.export_run(str(shallow_run), str(export_dir))
    assert pathlib.Path(version).name == "100000000000"
    summary = json.loads((shallow_run / "summary.json").read_text())
    assert summary["export"] == version
    before = int(time.time())
    fresh = export_run.export_run(str(shallow_run), str(tmp_path / "fresh"))
    assert before <= int(pathlib.Path(fresh).name) <= int(time.time())
    hidden = [p.name for p in (tmp_path / "fresh").iterdir() if p.name[0] == "."]
    assert hidden == []


@pytest.mark.slow
def test_an_export_that_fails_a_check_is_not_published(
    shallow_run, tmp_path, monkeypatch
):
    write_saved_model = export_run.write_saved_model

    def break_labels(folder, classifier, classes, *more, **options):
        write_saved_model(folder, classifier, classes[::-1], *more, **options)

    monkeypatch.setattr(export_run, "write_saved_model", break_labels)
    with pytest.raises(ValueError, match="labels do not belong"):
        export_run.export_run(str(shallow_run), str(tmp_path / "export"))
    assert list((tmp_path / "export").iterdir()) == []


@pytest.mark.slow
def test_what_is_compared_is_computed_on_the_cpu(shallow_run, tmp_path, monkeypatch):
    found = []

    def note_device(*arguments, **options):
        found.append(context.context().device_name)
        if len(found) == 3:
            raise ValueError("seen enough")
        return restored

    restored = export_run.run_dir.restore_classifier
    monkeypatch.setattr(
        export_run.run_dir,
        "restore_classifier",
        lambda *each: (note_device(), restored(*each))[1],
    )
    monkeypatch.setattr(
        export_run,
        "fold_and_compare",
        lambda each, *_, **__: (each, note_device()),
    )
    monkeypatch.setattr(export_run, "lower_precision", lambda each, *_, **__: (each, 0))
    monkeypatch.setattr(export_run, "predict_replies", note_device)
    assert not context.context().device_name
    with pytest.raises(ValueError, match="seen enough"):
        export_run.export_run(
            str(shallow_run), str(tmp_path / "export"), precision="bfloat16"
        )
    assert [name[-5:] for name in found] == ["CPU:0"] * 3


@pytest.mark.slow
def test_a_run_that_an_older_version_evaluated_is_refused_with_what_to_do(
    shallow_run, tmp_path
):
    for name in ("config.json", "summary.json"):
        (tmp_path / name).write_bytes((shallow_run / name).read_bytes())
    with pytest.raises(ValueError, match="command that trained it evaluates it again"):
        export_run.export_run(str(tmp_path), str(tmp_path / "export"))


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_and_nothing_is_left(
    shallow_run, tmp_path, monkeypatch
):
    def fail(_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(write, "write_warmup", fail)
    with pytest.raises(OSError, match="No space left on device"):
        export_run.export_run(str(shallow_run), str(tmp_path / "export"))
    assert list((tmp_path / "export").iterdir()) == []


@pytest.mark.slow
def test_folding_that_changes_too_much_is_left(
    trained_run, restored, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(folding, "_TOLERANCE", -1.0)
    version = pathlib.Path(export_run.export_run(str(trained_run), str(tmp_path)))
    assert "batch norm is not folded" in capsys.readouterr().out
    stored = version / "variables" / "variables.data-00000-of-00001"
    weights = sum(w.numpy().nbytes for w in restored.model.weights)
    assert stored.stat().st_size > weights


@pytest.mark.slow
def test_bfloat16_says_what_it_costs_and_has_half_the_bytes(
    trained_run, exported, tmp_path, capsys
):
    version = pathlib.Path(
        export_run.export_run(
            str(trained_run), str(tmp_path), precision="bfloat16", max_accuracy_drop=1.0
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


@pytest.mark.slow
def test_bfloat16_is_refused_where_it_costs_too_much(
    shallow_run, tmp_path, monkeypatch
):
    measured = {"float32": 0.9, "served": 0.88, "count": 100}
    monkeypatch.setattr(
        reduced_precision, "_measure_accuracy", lambda *_, **__: measured
    )
    with pytest.raises(
        ValueError, match=r"accuracy by 0\.0200, more.*--max_accuracy_drop=0\.01;"
    ):
        export_run.export_run(
            str(shallow_run), str(tmp_path / "e"), precision="bfloat16"
        )
    assert not (tmp_path / "e").exists()


@pytest.mark.slow
def test_bfloat16_needs_data_to_measure_on(shallow_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export_run, "_find_prepared_data", lambda *_: None)
    with pytest.raises(ValueError, match="and it is gone"):
        export_run.export_run(
            str(shallow_run), str(tmp_path / "e"), precision="bfloat16"
        )


def test_a_directory_that_is_no_finished_run_is_quoted(tmp_path):
    with pytest.raises(ValueError, match=f"Received: --model_dir={tmp_path}"):
        export_run.export_run(str(tmp_path), str(tmp_path / "export"))
    assert list(tmp_path.iterdir()) == []


_MISTAKES = {
    ("--model_dir=RUN", "--rollback"): "Give either --model_dir=RUN",
    (): "Give either --model_dir=RUN",
    ("--rollback",): "none, which does not exist.",
    ("--model_dir=RUN", "--keep=-1"): "--keep",
    ("--model_dir=nowhere",): "Received: --model_dir=nowhere",
}


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path):
    flag = f"--export_dir={tmp_path / 'none'}"
    commands = [("-m", "export.main", flag, *each) for each in _MISTAKES]
    # One of them is a process of its own, which imports what an export needs.
    *in_forks, last = commands
    results = fakes.run_forked([(command, None) for command in in_forks])
    results.append(fakes.run(*last))
    for problem, done in zip(_MISTAKES.values(), results, strict=True):
        assert done.returncode != 0
        assert problem in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "none").exists()
