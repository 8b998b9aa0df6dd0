import pytest
import tensorflow as tf

from export.checks.graph_checks import find_graph_problems, find_weight_problems
from export.graph.signatures import hold_variables


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
def test_the_graph_check_finds(problem, tmp_path):
    body, options = BAD_GRAPHS[problem]
    saved = _save_module(_Module(body, **options), tmp_path / "saved")
    problems = find_graph_problems(saved)
    assert any(problem in found for found in problems), problems


def test_the_graph_check_passes_a_plain_graph(tmp_path):
    saved = _save_module(_Module(lambda m, x: x @ m.weight), tmp_path / "saved")
    assert find_graph_problems(saved) == []


@pytest.mark.slow
def test_weights_stored_twice_are_found(classifier, expected, tmp_path):
    held = hold_variables(classifier)
    held.again = [tf.Variable(weight) for weight in held.weights]
    tf.saved_model.save(held, str(tmp_path))
    (problem,) = find_weight_problems(tmp_path, expected.weight_bytes)
    stored = 2 * expected.weight_bytes
    assert problem.startswith(f"it stores {stored} bytes of weights")


@pytest.mark.slow
def test_weights_and_nothing_else_are_stored(saved_model, expected):
    assert find_weight_problems(saved_model, expected.weight_bytes) == []
