import io

import fakes
import numpy as np
import pytest
import tensorflow as tf
from fakes.image_files import BAD_IMAGES, photograph
from PIL import Image

from export.graph.safe_decoding import decode_rows
from export.graph.signatures import make_signatures
from export.protocol import messages
from pipeline import decoding
from pipeline.inspection.reencoding import StoredForm
from trainer.models.classifier import compute_logits

SIDE = 32


@pytest.fixture(scope="module")
def signatures(classifier, postprocessing):
    return make_signatures(
        classifier,
        fakes.CLASSES,
        postprocessing,
        image_size=SIDE,
        form=StoredForm(sample_bits=12, background="black"),
    )


@pytest.mark.slow
def test_a_bad_image_changes_only_its_own_row(signatures):
    good = [photograph(index) for index in range(2)]
    batch = [good[0], *BAD_IMAGES.values(), good[1]]
    reply = signatures["serving_default"](tf.constant(batch))
    is_good = [True, *(False for _ in BAD_IMAGES), True]
    found = dict(
        zip(BAD_IMAGES, reply["decode_ok"].numpy().tolist()[1:-1], strict=True)
    )
    assert found == dict.fromkeys(BAD_IMAGES, False)
    assert reply["decode_ok"].numpy().tolist() == is_good
    alone = signatures["serving_default"](tf.constant(good))
    for name, values in alone.items():
        rows = reply[name].numpy()
        if name in ("probabilities", "unknown_score"):
            # Another number of rows rounds otherwise; scores are in the hundreds.
            atol = 1e-2 if name == "unknown_score" else 1e-5
            np.testing.assert_allclose(rows[[0, -1]], values, rtol=0, atol=atol)
            np.testing.assert_array_equal(rows[1:-1], 0.0)
        else:
            np.testing.assert_array_equal(rows[[0, -1]], values)
    assert set(reply["class_id"].numpy()[1:-1]) == {-1}
    assert set(reply["label"].numpy()[1:-1]) == {b""}
    assert not reply["in_set"].numpy()[1:-1].any()
    assert not reply["is_unknown"].numpy()[1:-1].any()


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_strict_refuses_what_is_no_image(signatures, name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["predict_strict"](tf.constant([photograph(), BAD_IMAGES[name]]))


def test_a_bomb_is_refused_by_its_size(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match="3600000000"):
        signatures["predict_strict"](tf.constant([BAD_IMAGES["PNG of 60,000"]]))


def test_probabilities_labels_and_classes_belong_together(signatures, classifier):
    encoded = [photograph(index) for index in range(3)]
    pixels = tf.stack(
        [decoding.decode_and_resize(tf.constant(one), SIDE) for one in encoded]
    )
    wanted = tf.nn.softmax(compute_logits(classifier, pixels) / 0.8).numpy()
    for name in ("serving_default", "predict_strict"):
        reply = signatures[name](tf.constant(encoded))
        np.testing.assert_allclose(reply["probabilities"], wanted, atol=1e-5)
        assert reply["class_id"].numpy().tolist() == wanted.argmax(axis=1).tolist()
        assert [fakes.CLASSES[k].encode() for k in reply["class_id"].numpy()] == (
            reply["label"].numpy().tolist()
        )


def _example(image_bytes, key=messages.CLASSIFY_KEY) -> bytes:
    feature = {key: {"bytes_list": {"value": [image_bytes]}}}
    return tf.train.Example(features={"feature": feature}).SerializeToString()


def test_classify_gives_every_class_best_first(signatures):
    encoded = [photograph(index) for index in range(3)]
    probabilities = signatures["serving_default"](tf.constant(encoded))
    order = np.argsort(-probabilities["probabilities"], axis=1)
    bad = [b"garbage", _example(b"no image"), _example(encoded[0], key="image")]
    reply = signatures["classify"](tf.constant([*map(_example, encoded), *bad]))
    assert set(reply) == {"classes", "scores"}
    names = np.array(fakes.CLASSES, np.bytes_)
    np.testing.assert_array_equal(reply["classes"][:3], names[order])
    # Another number of rows may round otherwise: six here, three above.
    np.testing.assert_allclose(
        reply["scores"][:3],
        -np.sort(-probabilities["probabilities"], axis=1),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(reply["scores"][3:], 0.0)
    assert set(reply["classes"].numpy()[3:].ravel()) == {b""}


def test_pixels_get_what_their_bytes_get(signatures):
    encoded = tf.constant([photograph(7)])
    image = decoding.decode(encoded[0])[tf.newaxis]
    found = signatures["predict_pixels"](tf.repeat(image, 3, axis=0))
    wanted = signatures["predict_strict"](encoded)
    np.testing.assert_allclose(
        found["probabilities"], np.repeat(wanted["probabilities"], 3, 0), atol=1e-6
    )
    assert set(found["label"].numpy()) == set(wanted["label"].numpy())


def test_features_are_the_pooled_ones(signatures, classifier):
    encoded = [photograph(index) for index in range(2)]
    pixels = tf.stack(
        [decoding.decode_and_resize(tf.constant(one), SIDE) for one in encoded]
    )
    backbone = classifier.backbone(classifier.normalise(pixels), training=False)
    reply = signatures["features"](tf.constant([*encoded, b"no image"]))
    wanted = tf.reduce_mean(backbone, axis=(1, 2))
    # A graph fuses layers, and so rounds otherwise.
    np.testing.assert_allclose(reply["embedding"][:2], wanted, atol=5e-4)
    np.testing.assert_array_equal(reply["embedding"][2], 0.0)
    assert reply["decode_ok"].numpy().tolist() == [True, True, False]


def test_a_batch_may_be_empty_or_large_and_rows_do_not_depend_on_it(signatures):
    empty = tf.constant([], tf.string)
    for name in ("serving_default", "predict_strict", "classify", "features"):
        for key, values in signatures[name](empty).items():
            assert values.shape[0] == 0, (name, key)
    none = signatures["predict_pixels"](tf.zeros([0, 5, 5, 3], tf.uint8))
    assert none["probabilities"].shape == (0, len(fakes.CLASSES))
    encoded = [photograph(index % 7) for index in range(64)]
    many = signatures["serving_default"](tf.constant(encoded))["probabilities"]
    for size in (1, 3):
        few = signatures["serving_default"](tf.constant(encoded[:size]))
        np.testing.assert_allclose(few["probabilities"], many[:size], atol=1e-6)


def test_a_folder_of_large_photographs_is_antialiased_as_in_training(signatures):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 150, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    encoded = tf.constant([file.getvalue()])
    rows, _ = decode_rows(encoded, SIDE, contained=False)
    np.testing.assert_array_equal(rows[0], decoding.decode_and_resize(encoded[0], SIDE))
    found = signatures["predict_pixels"](tf.constant(pixels[np.newaxis]))
    wanted = signatures["predict_strict"](encoded)
    np.testing.assert_allclose(
        found["probabilities"], wanted["probabilities"], atol=1e-6
    )


@pytest.mark.slow
def test_preparation_says_how_the_training_images_were_stored(signatures):
    for count in (0, 2):
        reply = signatures["preparation"](tf.constant([b"no image"] * count, tf.string))
        assert reply["background"].numpy().tolist() == [b"black"] * count
        assert reply["sample_bits"].numpy().tolist() == [12] * count
