"""Sends random bytes: no crash, no leak, no change of other rows."""

import os

import fakes
import numpy as np
import pytest
import tensorflow as tf
from fakes.image_files import BAD_IMAGES, IMAGES, photograph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.c_api.session import Session
from export.protocol.status import StatusError

SEEDS = [
    image for image in (*IMAGES.values(), *BAD_IMAGES.values(), photograph()) if image
]
MAX_GROWTH_MEBIBYTES = 64


@st.composite
def mutated(draw):
    """A real file with bytes changed, cut out, put in, or another one's end."""
    image_bytes = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(image_bytes) - 1)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "splice", "drop"]))
        if kind == "change":
            image_bytes[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
        elif kind == "cut":
            del image_bytes[at:]
        elif kind == "insert":
            image_bytes[at:at] = draw(st.binary(max_size=20))
        elif kind == "splice":
            image_bytes[at:] = draw(st.sampled_from(SEEDS))[at:]
        else:
            del image_bytes[at : at + draw(st.integers(1, 50))]
    return bytes(image_bytes)


@pytest.fixture(scope="module")
def served(saved_model):
    """A SavedModel on the C API, as a server holds it."""
    session = Session(str(saved_model))
    yield session
    session.close()


def _resident_mebibytes() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _strings(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.slow
def test_ten_thousand_mutated_files(served):
    good = photograph(1)
    alone = served.run("serving_default", {"image_bytes": _strings([good])})
    resident = []

    @settings(
        max_examples=1000,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(mutated() | st.binary(max_size=200), min_size=10, max_size=10))
    def send(batch):
        found = served.run("serving_default", {"image_bytes": _strings([*batch, good])})
        np.testing.assert_allclose(
            found["probabilities"][-1], alone["probabilities"][0], atol=1e-6
        )
        ok = found["decode_ok"]
        assert ok[-1]
        sums = found["probabilities"].sum(axis=1)
        np.testing.assert_allclose(sums, ok.astype(float), atol=1e-5)
        assert ((found["class_id"] == -1) == ~ok).all()
        np.testing.assert_array_equal(found["label"] != b"", ok)
        resident.append(_resident_mebibytes())

    send()
    assert len(resident) >= 1000
    # What the first requests allocate stays; what comes after must not.
    growth = resident[-1] - resident[len(resident) // 5]
    assert growth < MAX_GROWTH_MEBIBYTES, growth


@pytest.mark.slow
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(one=mutated())
def test_strict_takes_what_the_default_takes_and_no_more(served, one):
    inputs = {"image_bytes": _strings([one])}
    if served.run("serving_default", inputs)["decode_ok"][0]:
        assert served.run("predict_strict", inputs)["label"][0] != b""
    else:
        with pytest.raises(StatusError) as raised:
            served.run("predict_strict", inputs)
        assert raised.value.code == tf.errors.INVALID_ARGUMENT


@pytest.mark.slow
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=4))
def test_classify_contains_what_is_no_example(served, examples):
    found = served.run("classify", {"inputs": _strings(examples)})
    assert found["scores"].shape == (len(examples), len(fakes.CLASSES))
    assert not found["scores"].any()
