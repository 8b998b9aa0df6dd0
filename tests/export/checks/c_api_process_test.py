import pathlib
import shutil

import fakes
import pytest
import tensorflow as tf
from fakes.serving import count_warm_up_requests

from export.checks.c_api_process import answer_with_c_api
from export.protocol import messages


@pytest.mark.slow
def test_no_python_tensorflow_answers_and_the_warm_up_is_replayed(answer):
    assert answer["python_tensorflow"] is False
    assert answer["warmed_up"] == count_warm_up_requests()


@pytest.mark.slow
def test_a_half_copied_model_does_not_answer(saved_model, tmp_path):
    folder = pathlib.Path(shutil.copytree(saved_model, tmp_path / "saved"))
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ValueError, match="C API does not run it"):
        answer_with_c_api(folder, [])


@pytest.mark.slow
def test_a_broken_warm_up_is_found(saved_model, classifier, tmp_path):
    folder = pathlib.Path(shutil.copytree(saved_model, tmp_path / "saved"))
    path = folder / messages.WARMUP_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="ends within a record"):
        answer_with_c_api(folder, [])
    path.write_bytes(whole.replace(b"image_bytes", b"image_bites"))
    with pytest.raises(ValueError, match="data of a record is damaged"):
        answer_with_c_api(folder, [])
    with tf.io.TFRecordWriter(str(path)) as writer:
        (first, *_) = tf.data.TFRecordDataset(str(saved_model / messages.WARMUP_FILE))
        writer.write(first.numpy().replace(b"image_bytes", b"image_bites"))
    with pytest.raises(ValueError, match="image_bites"):
        answer_with_c_api(folder, [])
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="holds no request"):
        answer_with_c_api(folder, [])


@pytest.mark.slow
def test_the_working_directory_does_not_matter(saved_model, tmp_path, monkeypatch):
    (tmp_path / "export").mkdir()
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert answer_with_c_api(saved_model, [])["warmed_up"] == count_warm_up_requests()


@pytest.mark.slow
def test_a_graph_that_needs_xla_does_not_answer(tmp_path):
    """As on a server, whatever the graph check finds."""
    module = tf.Module()
    module.weight = tf.Variable([[1.0, 2.0]])
    serve = tf.function(
        lambda x: {"y": x @ module.weight},
        input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")],
        jit_compile=True,
    )
    folder = tmp_path / "saved"
    tf.saved_model.save(module, str(folder), signatures={"serve": serve})
    script = (
        "import sys, numpy as np; from export.c_api.session import Session; "
        "s = Session(sys.argv[1]); "
        "s.run('serve', {'x': np.ones((1, 1), np.float32)})"
    )
    done = fakes.run("-c", script, str(folder))
    assert done.returncode != 0
    assert "XLA compilation disabled" in done.stderr
