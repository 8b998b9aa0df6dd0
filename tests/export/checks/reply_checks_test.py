import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2

from export.checks.reply_checks import find_reply_problems, find_signature_problems
from export.graph.signatures import PREDICT_METHOD

# The fixtures write a SavedModel and start a process.
pytestmark = pytest.mark.slow


def _change_signatures(answer, change):
    signatures = {
        name: meta_graph_pb2.SignatureDef.FromString(serialized)
        for name, serialized in answer["signatures"].items()
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
def test_another_signature_than_declared_is_found(answer, expected, change, name):
    changed = _change_signatures(answer, change)
    (problem,) = find_signature_problems(changed, expected)
    assert problem.startswith(f"signature {name} is")


def test_the_declared_signatures_are_found(answer, expected):
    assert find_signature_problems(answer["signatures"], expected) == []


def _shift(key, by, rows=slice(None)):
    def tamper(replies, name):
        replies[name][key][rows] += np.asarray(by, replies[name][key].dtype)

    return tamper


def _put(key, value, rows=slice(1, 2)):
    def tamper(replies, name):
        replies[name][key][rows] = value

    return tamper


def _flip(key):
    def tamper(replies, name):
        replies[name][key] = ~replies[name][key]

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
        ("batch of 64", _shift("unknown_score", 1e3), "unknown_score differs from"),
        ("batch of 64", _put("in_set", False), "in_set does not belong"),
        ("batch of 64", _flip("is_unknown"), "is_unknown does not belong"),
        ("bad images", _put("unknown_score", 0.1), "are not blank"),
        ("bad images", _put("in_set", True), "are not blank"),
        ("again", _shift("probabilities", 1e-7, 0), "two equal requests"),
        ("batch of 3", _shift("probabilities", 1e-3, 2), "rows of a batch of 3"),
        ("batch of 1", _shift("probabilities", 1e-3), "rows of a batch of 1"),
        ("strict", _shift("probabilities", 1e-3), "predict_strict differs"),
        ("pixels", _shift("probabilities", 1e-3), "predict_pixels differs"),
        ("bad images", _put("decode_ok", True), "does not tell bad images"),
        ("bad images", _shift("probabilities", 1e-3, 0), "change other rows"),
        ("bad images", _put("probabilities", 0.1), "are not blank"),
        ("bad images", _put("class_id", 0), "are not blank"),
        ("bad images", _put("label", b"a"), "are not blank"),
        ("features", _put("embedding", 1.0), "are not blank"),
        ("features", _put("decode_ok", True), "decode_ok of features"),
        ("classify", _put("classes", b"a"), "are not blank"),
        ("classify", _put("scores", 0.1), "are not blank"),
        ("classify", _put("scores", 0.0, 0), "classify's scores differ"),
        ("preparation", _put("background", b"white"), "preparation says"),
        ("preparation", _put("sample_bits", 16), "preparation says"),
        ("strict and bad", _replace({"label": []}), "predict_strict does not refuse"),
        ("strict and bad", _replace((13, "x")), "predict_strict does not refuse"),
        ("batch of 3", _replace((8, "no memory")), "'batch of 3' fails: no memory"),
        ("empty batch", _replace({"label": np.zeros(1)}), "an empty batch gets rows"),
    ],
)
def test_a_reply_that_is_off_is_found(replies, expected, name, tamper, problem):
    assert find_reply_problems(replies, expected) == []
    tamper(replies, name)
    problems = find_reply_problems(replies, expected)
    assert any(problem in found for found in problems), problems
