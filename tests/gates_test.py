import copy
import dataclasses
import pathlib

import fakes
import numpy as np
import pytest
import tensorflow as tf
from serving_test import photograph
from tensorflow.core.protobuf import (
    fingerprint_pb2,
    meta_graph_pb2,
    saved_model_pb2,
)
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from export.checks.graph_checks import find_graph_problems, find_weight_problems
from export.checks.reply_checks import find_reply_problems, find_signature_problems
from export.checks.requests import Expected, make_requests
from export.checks.run_checks import answer_outside_python, check_export
from export.graph.signatures import PREDICT_METHOD, hold_variables
from export.protocol import messages
from export.version.reduced_precision import predict_probabilities
from export.version.write import write_saved_model
from pipeline import decoding

SIDE = 32
PHOTOGRAPHS = [photograph(index) for index in range(5)]
PIXELS = decoding.decode(tf.constant(PHOTOGRAPHS[0])).numpy()[np.newaxis]


@pytest.fixture(scope="module")
def classifier():
    return fakes.make_classifier()


@pytest.fixture(scope="module")
def expected(classifier):
    return Expected(
        classes=fakes.CLASSES,
        embedding_size=256,
        weight_bytes=sum(w.numpy().nbytes for w in classifier.model.weights),
        probabilities=predict_probabilities(classifier, PHOTOGRAPHS, image_size=SIDE),
        precision="float32",
    )


def _save(classifier, folder) -> pathlib.Path:
    write_saved_model(folder, classifier, fakes.CLASSES, image_size=SIDE)
    return folder


@pytest.fixture(scope="module")
def good(classifier, tmp_path_factory):
    return _save(classifier, tmp_path_factory.mktemp("gates") / "good")


@pytest.fixture(scope="module")
def answered(good):
    requests = make_requests(PHOTOGRAPHS, PIXELS)
    return answer_outside_python(good, list(requests.values()))


@pytest.fixture
def replies(answered):
    names = make_requests(PHOTOGRAPHS, PIXELS)
    return dict(zip(names, copy.deepcopy(answered["replies"]), strict=True))


def test_a_good_export_passes_every_gate(good, expected):
    assert check_export(good, PHOTOGRAPHS, PIXELS, expected) < 1e-5


def test_a_photograph_that_is_decoded_smaller_passes(good, classifier, expected):
    noise = np.random.default_rng(1).integers(0, 256, [3 * SIDE, 4 * SIDE, 3], np.uint8)
    photographs = [tf.io.encode_jpeg(noise).numpy(), *PHOTOGRAPHS]
    pixels = decoding.decode(tf.constant(photographs[0])).numpy()[np.newaxis]
    probabilities = predict_probabilities(classifier, photographs, image_size=SIDE)
    whole = predict_probabilities(
        classifier, [tf.io.encode_png(pixels[0]).numpy()], image_size=SIDE
    )
    assert np.abs(whole - probabilities[:1]).max() > 1e-4
    expected = dataclasses.replace(expected, probabilities=probabilities)
    assert check_export(good, photographs, pixels, expected) < 1e-5


def test_all_problems_are_named_at_once(good, expected):
    wrong = Expected(**{**vars(expected), "weight_bytes": 7, "classes": ["a"]})
    with pytest.raises(ValueError, match="bytes of weights") as raised:
        check_export(good, PHOTOGRAPHS, PIXELS, wrong)
    assert "signature classify is" in str(raised.value)
    assert "was not published" in str(raised.value)


# A module and what the graph gate says of it.


class _Module(tf.Module):
    def __init__(self, body, **options):
        super().__init__()
        self.weight = tf.Variable([[1.0, 2.0]])
        self.norm = tf.keras.layers.BatchNormalization()
        self.norm.build((None, 2))
        self.serve = tf.function(
            lambda x: {"y": body(self, x)},
            input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")],
            **options,
        )


def _learn(module, x):
    with tf.GradientTape() as tape:
        y = x @ module.weight
    module.weight.assign_sub(tape.gradient(y, module.weight))
    return y


BAD_GRAPHS = {
    "needs XLA": (lambda m, x: x @ m.weight, {"jit_compile": True}),
    "random operation, RandomStandardNormal": (
        lambda m, x: tf.random.normal(tf.shape(x)) + x @ m.weight,
        {},
    ),
    "random operation, StatelessRandomUniform": (
        lambda m, x: tf.random.stateless_uniform([2], seed=(1, 2)) + x @ m.weight,
        {},
    ),
    "operation of training, FusedBatchNormV3": (
        lambda m, x: tf.compat.v1.nn.fused_batch_norm(
            (x @ m.weight)[:, None, None], [1.0, 1.0], [0.0, 0.0], is_training=True
        )[0][:, 0, 0],
        {},
    ),
    "operation of training, MaxPoolGrad": (
        lambda m, x: (
            tf.gradients(
                tf.nn.max_pool2d(image := tf.reshape(x, [-1, 1, 1, 1]), 1, 1, "VALID"),
                image,
            )[0][:, 0, 0]
            @ m.weight
        ),
        {},
    ),
    "calls Python, in EagerPyFunc": (
        lambda m, x: (
            tf.ensure_shape(tf.py_function(lambda a: a, [x], tf.float32), [None, 1])
            @ m.weight
        ),
        {},
    ),
}


def _save_module(module, folder):
    tf.saved_model.save(module, str(folder), signatures={"serve": module.serve})
    return folder


@pytest.mark.parametrize("problem", BAD_GRAPHS)
def test_the_graph_gate_finds(problem, tmp_path):
    body, options = BAD_GRAPHS[problem]
    saved = _save_module(_Module(body, **options), tmp_path / "saved")
    found = find_graph_problems(saved)
    assert any(problem in one for one in found), found


def test_the_graph_gate_lets_a_plain_graph_through(tmp_path):
    saved = _save_module(_Module(lambda m, x: x @ m.weight), tmp_path / "saved")
    assert find_graph_problems(saved) == []


def test_weights_stored_twice_are_found(classifier, expected, tmp_path):
    held = hold_variables(classifier)
    held.again = [tf.Variable(weight) for weight in held.weights]
    tf.saved_model.save(held, str(tmp_path))
    (problem,) = find_weight_problems(tmp_path, expected.weight_bytes)
    stored = 2 * expected.weight_bytes
    assert problem.startswith(f"it stores {stored} bytes of weights")


def test_weights_and_nothing_else_are_stored(good, expected):
    assert find_weight_problems(good, expected.weight_bytes) == []


def _change_signatures(answered, change):
    signatures = {
        name: meta_graph_pb2.SignatureDef.FromString(serialized)
        for name, serialized in answered["signatures"].items()
    }
    change(signatures)
    return {name: one.SerializeToString() for name, one in signatures.items()}


def _drop(signatures):
    del signatures["features"]


def _static_batch(signatures):
    signatures["serving_default"].inputs["image_bytes"].tensor_shape.dim[0].size = 1


def _half(signatures):
    signatures["features"].outputs["embedding"].dtype = 19


def _rename(signatures):
    outputs = signatures["predict_strict"].outputs
    outputs["output_0"].CopyFrom(outputs.pop("label"))


def _third_output(signatures):
    outputs = signatures["classify"].outputs
    outputs["decode_ok"].CopyFrom(signatures["features"].outputs["decode_ok"])


def _predict_method(signatures):
    signatures["classify"].method_name = PREDICT_METHOD


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_drop, "features"),
        (_static_batch, "serving_default"),
        (_half, "features"),
        (_rename, "predict_strict"),
        (_third_output, "classify"),
        (_predict_method, "classify"),
    ],
)
def test_another_signature_than_declared_is_found(answered, expected, change, name):
    changed = _change_signatures(answered, change)
    (problem,) = find_signature_problems(changed, expected)
    assert problem.startswith(f"signature {name} is")


def test_the_declared_signatures_are_found(answered, expected):
    assert find_signature_problems(answered["signatures"], expected) == []


def _shift(key, by, rows=slice(None)):
    def tamper(replies, name):
        replies[name][key][rows] += np.asarray(by, replies[name][key].dtype)

    return tamper


def _put(key, value, rows=slice(1, 2)):
    def tamper(replies, name):
        replies[name][key][rows] = value

    return tamper


def _replace(reply):
    def tamper(replies, name):
        replies[name] = reply

    return tamper


@pytest.mark.parametrize(
    ("name", "tamper", "problem"),
    [
        ("batch of 64", _shift("probabilities", 1e-3), "differ from the model's"),
        ("batch of 64", _put("probabilities", np.nan), "differ from the model's"),
        ("batch of 64", _put("label", b"other"), "labels do not belong"),
        ("batch of 64", _put("decode_ok", False), "labels do not belong"),
        ("again", _shift("probabilities", 1e-7, 0), "two equal requests"),
        ("batch of 3", _shift("probabilities", 1e-3, 2), "rows of a batch of 3"),
        ("batch of 1", _shift("probabilities", 1e-3), "rows of a batch of 1"),
        ("strict", _shift("probabilities", 1e-3), "predict_strict differs"),
        ("pixels", _shift("probabilities", 1e-3), "predict_pixels differs"),
        ("bad images", _put("decode_ok", True), "not told from good ones"),
        ("bad images", _shift("probabilities", 1e-3, 0), "spoil other rows"),
        ("bad images", _put("probabilities", 0.1), "are not blank"),
        ("bad images", _put("class_id", 0), "are not blank"),
        ("bad images", _put("label", b"a"), "are not blank"),
        ("features", _put("embedding", 1.0), "are not blank"),
        ("features", _put("decode_ok", True), "features does not tell"),
        ("classify", _put("classes", b"a"), "are not blank"),
        ("classify", _put("scores", 0.1), "are not blank"),
        ("classify", _put("scores", 0.0, 0), "classify's scores differ"),
        ("strict and bad", _replace({"label": []}), "predict_strict takes a bad image"),
        ("strict and bad", _replace((13, "x")), "predict_strict takes a bad image"),
        ("batch of 3", _replace((8, "no memory")), "'batch of 3' fails: no memory"),
        ("empty batch", _replace({"label": np.zeros(1)}), "an empty batch gets rows"),
    ],
)
def test_a_reply_that_is_off_is_found(replies, expected, name, tamper, problem):
    assert find_reply_problems(replies, expected) == []
    tamper(replies, name)
    found = find_reply_problems(replies, expected)
    assert any(problem in one for one in found), found


def _answer(folder):
    return answer_outside_python(folder, [])


def test_no_python_tensorflow_answers_and_the_warm_up_is_replayed(answered):
    assert answered["python_tensorflow"] is False
    assert answered["warmed_up"] == 30  # five signatures, six batch sizes


def test_a_half_copied_model_does_not_answer(classifier, tmp_path):
    folder = _save(classifier, tmp_path / "saved")
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ValueError, match="C API does not run it"):
        _answer(folder)


def test_a_broken_warm_up_is_found(good, classifier, tmp_path):
    folder = _save(classifier, tmp_path / "saved")
    path = folder / messages.WARMUP_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="ends within a record"):
        _answer(folder)
    path.write_bytes(whole.replace(b"image_bytes", b"image_bites"))
    with pytest.raises(ValueError, match="image_bites"):
        _answer(folder)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="holds no request"):
        _answer(folder)


def test_a_graph_that_needs_xla_does_not_answer(tmp_path):
    """As on a server, whatever the graph gate finds."""
    module = _Module(lambda m, x: x @ m.weight, jit_compile=True)
    folder = _save_module(module, tmp_path / "saved")
    script = (
        "import sys, numpy as np; from export import session; "
        "s = session.Session(sys.argv[1]); "
        "s.run('serve', {'x': np.ones((1, 1), np.float32)})"
    )
    done = fakes.run("-c", script, str(folder))
    assert done.returncode != 0
    assert "XLA compilation disabled" in done.stderr


def test_the_method_name_and_the_fingerprint_belong_together(good):
    saved = saved_model_pb2.SavedModel.FromString(
        (good / "saved_model.pb").read_bytes()
    )
    signature = saved.meta_graphs[0].signature_def["classify"]
    assert signature.method_name == "tensorflow/serving/classify"
    read = tf.saved_model.experimental.read_fingerprint(str(good))
    fresh = fingerprinting.CreateFingerprintDef(str(good))
    fresh = fingerprint_pb2.FingerprintDef.FromString(fresh)
    assert read.saved_model_checksum == fresh.saved_model_checksum
    assert read.signature_def_hash == fresh.signature_def_hash
