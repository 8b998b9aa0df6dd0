import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from export.checks.check_export import check_export
from export.checks.check_requests import ExpectedExport
from export.version.folding import predict_replies
from pipeline import decoding

SIDE = 32


@pytest.mark.slow
def test_a_good_export_passes_all_checks(saved_model, images, pixels, expected):
    assert check_export(saved_model, images, pixels, expected) < 1e-5


@pytest.mark.slow
def test_a_photograph_that_is_decoded_smaller_passes(
    saved_model, classifier, postprocessing, images, expected
):
    noise = np.random.default_rng(1).integers(0, 256, [3 * SIDE, 4 * SIDE, 3], np.uint8)
    photographs = [tf.io.encode_jpeg(noise).numpy(), *images]
    pixels = decoding.decode(tf.constant(photographs[0])).numpy()[np.newaxis]
    replies, whole = (
        predict_replies(classifier, postprocessing, encoded, image_size=SIDE)
        for encoded in (photographs, [tf.io.encode_png(pixels[0]).numpy()])
    )
    assert np.abs(whole["probabilities"] - replies["probabilities"][:1]).max() > 1e-4
    expected = dataclasses.replace(expected, replies=replies)
    assert check_export(saved_model, photographs, pixels, expected) < 1e-5


@pytest.mark.slow
def test_all_problems_are_named_at_once(saved_model, images, pixels, expected):
    wrong = ExpectedExport(**{**vars(expected), "weight_bytes": 7, "classes": ["a"]})
    with pytest.raises(ValueError, match="bytes of weights") as raised:
        check_export(saved_model, images, pixels, wrong)
    assert "signature classify is" in str(raised.value)
    assert "was not published" in str(raised.value)
