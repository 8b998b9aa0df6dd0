import dataclasses
import io
import json
import pathlib
import time

import fakes
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from export import saved_model
from pipeline import files
from trainer import checkpoints, config

PROBE = """
import json, sys
sys.modules["keras"] = None  # TensorFlow would import it by itself where it is there
import tensorflow as tf
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
images = [open(path, "rb").read() for path in sys.argv[2:]]
found = signature(image_bytes=tf.constant(images))
forbidden = {"keras_cv", "pipeline", "trainer", "export"} & set(sys.modules)
spec = {
    "in": {k: [v.dtype.name, v.shape.as_list()]
           for k, v in signature.structured_input_signature[1].items()},
    "out": {k: [v.dtype.name, v.shape.as_list()]
            for k, v in signature.structured_outputs.items()},
}
print(json.dumps({
    "forbidden": sorted(forbidden),
    "spec": spec,
    "probabilities": found["probabilities"].numpy().tolist(),
    "class_id": found["class_id"].numpy().tolist(),
    "label": [label.decode() for label in found["label"].numpy()],
}))
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> pathlib.Path:
    """A run with random weights, as trainer.main leaves it."""
    base = tmp_path_factory.mktemp("export") / "run"
    values = flags.FlagValues()
    config.define_flags(values)
    values(["program", *fakes.TINY_MODEL_FLAGS, "--data_dir=gone", "--regimes=head"])
    settings = config.from_flags(values)
    base.mkdir()
    files.write_json(
        base / checkpoints.CONFIG_FILE, {"flags": dataclasses.asdict(settings)}
    )
    files.write_json(
        base / checkpoints.SUMMARY_FILE,
        {"classes": fakes.CLASSES, "best_regime": "head", "export": None},
    )
    checkpoints.save_best(fakes.make_classifier(), base, "head")
    return base


def _restore(run_dir):
    settings, classes, regime = checkpoints.read_run(run_dir)
    return checkpoints.restore(settings, classes, run_dir, regime)


def _photographs(folder) -> list[pathlib.Path]:
    paths = []
    for index, image_format in enumerate(("JPEG", "PNG", "JPEG")):
        path = folder / f"{index}.{image_format.lower()}"
        fakes.draw("square", index).save(path, image_format)
        paths.append(path)
    return paths


@pytest.mark.slow
def test_a_process_without_keras_or_this_project_gets_the_models_probabilities(
    run_dir, tmp_path
):
    from pipeline import preprocess
    from trainer import model

    version = saved_model.export_run(str(run_dir), str(tmp_path / "export"))
    paths = _photographs(tmp_path)
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    done = fakes.run(str(script), version, *map(str, paths))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["forbidden"] == []
    assert found["spec"] == {
        "in": {"image_bytes": ["string", [None]]},
        "out": {
            "probabilities": ["float32", [None, 3]],
            "class_id": ["int64", [None]],
            "label": ["string", [None]],
        },
    }
    pixels = tf.stack(
        [
            preprocess.decode_and_resize(tf.constant(path.read_bytes()), 32)
            for path in paths
        ]
    )
    logits = model.compute_logits(_restore(run_dir), pixels)
    np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(logits), atol=1e-5)
    assert found["class_id"] == logits.numpy().argmax(axis=1).tolist()
    assert found["label"] == [fakes.CLASSES[k] for k in found["class_id"]]


def test_weights_are_stored_once(run_dir, tmp_path):
    version = saved_model.export_run(str(run_dir), str(tmp_path / "export"))
    weights = sum(
        np.prod(weight.shape) * 4 for weight in _restore(run_dir).model.weights
    )
    stored = (
        (pathlib.Path(version) / "variables" / "variables.data-00000-of-00001")
        .stat()
        .st_size
    )
    assert weights <= stored < 1.05 * weights


def test_versions_are_integers_that_grow_and_the_summary_names_the_newest(
    run_dir, tmp_path
):
    export_dir = tmp_path / "export"
    (export_dir / "not-a-version").mkdir(parents=True)
    (export_dir / "99999999999").mkdir()
    version = saved_model.export_run(str(run_dir), str(export_dir))
    assert pathlib.Path(version).name == "100000000000"
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["export"] == version
    before = int(time.time())
    fresh = saved_model.export_run(str(run_dir), str(tmp_path / "fresh"))
    assert before <= int(pathlib.Path(fresh).name) <= int(time.time())
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == [
        pathlib.Path(fresh).name
    ]


def test_an_export_that_differs_from_the_model_is_not_published(
    run_dir, tmp_path, monkeypatch
):
    original = saved_model.ServingModel

    def broken(classifier, classes, *, image_size):
        bias = classifier.head.get_layer("logits").bias
        right = bias.numpy()
        bias.assign(right + np.array([0.1, 0.0, 0.0]))
        made = original(classifier, classes, image_size=image_size)
        monkeypatch.setattr(
            tf.saved_model, "save", _save_then(lambda: bias.assign(right))
        )
        return made

    def _save_then(repair):
        save = tf.saved_model.save

        def save_and_repair(*arguments, **options):
            save(*arguments, **options)
            repair()

        return save_and_repair

    monkeypatch.setattr(saved_model, "ServingModel", broken)
    with pytest.raises(RuntimeError, match="was not published"):
        saved_model.export_run(str(run_dir), str(tmp_path / "export"))
    assert list((tmp_path / "export").iterdir()) == []


def test_a_directory_that_is_no_finished_run_is_quoted(tmp_path):
    with pytest.raises(ValueError, match=f"Received: --model_dir={tmp_path}"):
        saved_model.export_run(str(tmp_path), str(tmp_path / "export"))
    assert list(tmp_path.iterdir()) == []


def test_one_row_does_not_depend_on_the_batch_it_comes_in(run_dir):
    from export import serving

    classifier = _restore(run_dir)
    serve = serving.ServingModel(
        classifier, fakes.CLASSES, image_size=32
    ).serving_default
    encoded = []
    for index in range(5):
        file = io.BytesIO()
        fakes.draw("stripe", index).save(file, "JPEG")
        encoded.append(file.getvalue())
    together = serve(tf.constant(encoded))["probabilities"]
    alone = [serve(tf.constant([one]))["probabilities"][0] for one in encoded]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(together, axis=1), 1, atol=1e-6)
