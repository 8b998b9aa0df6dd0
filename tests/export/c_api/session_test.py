import numpy as np
import pytest
import tensorflow as tf

from export.c_api.session import Session
from export.protocol.status import Code, StatusError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A model that repeats rows: of numbers [N, 2] and strings [N]."""
    module = tf.Module()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, "numbers"),
            tf.TensorSpec([None], tf.string, "names"),
        ]
    )
    def repeat(numbers, names):
        checked = tf.debugging.check_numerics(numbers, "not finite")
        return {
            "names": tf.concat([names, names], 0),
            "numbers": tf.concat([checked, checked], 0),
        }

    folder = tmp_path_factory.mktemp("models") / "saved"
    tf.saved_model.save(module, str(folder), {"repeat": repeat})
    session = Session(str(folder))
    yield session
    session.close()


INPUTS = {
    "numbers": np.array([[1, 2]], np.float32),
    "names": np.array([b"a\0\xff" * 20], object),
}


def test_a_signature_runs_on_numbers_and_strings(session):
    assert list(session.signatures) == ["repeat"]
    outputs = session.run("repeat", INPUTS)
    assert outputs["numbers"].dtype == np.float32
    assert outputs["numbers"].tolist() == [[1, 2], [1, 2]]
    assert outputs["names"].tolist() == [b"a\0\xff" * 20] * 2


def test_empty_arrays_are_values(session):
    outputs = session.run(
        "repeat",
        {"numbers": np.zeros([0, 2], np.float32), "names": np.zeros([0], object)},
    )
    assert outputs["numbers"].shape == (0, 2)
    assert outputs["names"].shape == (0,)


@pytest.mark.parametrize(
    ("signature", "changes", "code", "message"),
    [
        ("other", {}, Code.FAILED_PRECONDITION, '"other" not found'),
        ("repeat", {"extra": np.zeros(1)}, Code.INVALID_ARGUMENT, "extra: {extra}"),
        (
            "repeat",
            {"numbers": np.zeros([1, 2], np.int64)},
            Code.INVALID_ARGUMENT,
            "Expects numbers to be float but int64 is provided",
        ),
        (
            "repeat",
            {"numbers": np.zeros([1, 3], np.float32)},
            Code.INVALID_ARGUMENT,
            r"Expects numbers of shape \[-1, 2\] but \[1, 3\] is provided",
        ),
        (
            "repeat",
            {"numbers": np.full([1, 2], np.nan, np.float32)},
            Code.INVALID_ARGUMENT,
            "not finite",
        ),
    ],
)
def test_an_error_has_code_and_message_of_the_server(
    session, signature, changes, code, message
):
    with pytest.raises(StatusError, match=message) as raised:
        session.run(signature, INPUTS | changes)
    assert raised.value.code == code


def test_a_missing_input_is_named(session):
    with pytest.raises(StatusError, match=r"Missing but required: \{names\}"):
        session.run("repeat", {"numbers": INPUTS["numbers"]})


def test_a_folder_without_a_model_is_not_found(tmp_path):
    with pytest.raises(StatusError) as raised:
        Session(str(tmp_path))
    assert raised.value.code == Code.NOT_FOUND
