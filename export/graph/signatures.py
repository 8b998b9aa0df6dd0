"""Declares the signatures of an export and builds them.

n is the size of the batch, any number, 0 included. K is the number of classes, D the
number of pooled features.

| signature         | input                          | outputs                         |
|-------------------|--------------------------------|---------------------------------|
| `serving_default` | `image_bytes` string [n]       | `probabilities` float32 [n, K], |
|                   |                                | `class_id` int64 [n],           |
|                   |                                | `label` string [n],             |
|                   |                                | `in_set` bool [n, K],           |
|                   |                                | `unknown_score` float32 [n],    |
|                   |                                | `is_unknown` bool [n],          |
|                   |                                | `decode_ok` bool [n]            |
| `predict_strict`  | `image_bytes` string [n]       | all of these but `decode_ok`    |
| `classify`        | `inputs` string [n], each a    | `classes` string [n, K],        |
|                   | tf.train.Example with          | `scores` float32 [n, K],        |
|                   | `image/encoded`                | the best class first            |
| `predict_pixels`  | `image` uint8 [n, H, W, 3],    | as `predict_strict`             |
|                   | RGB, upright                   |                                 |
| `features`        | `image_bytes` string [n]       | `embedding` float32 [n, D],     |
|                   |                                | `decode_ok` bool [n]            |
| `preparation`     | `image_bytes` string [n],      | `background` string [n],        |
|                   | which is not looked at         | `sample_bits` int64 [n]         |

Probabilities are calibrated. `in_set` marks a set of classes, which holds the true
class as often as the trainer's flag --coverage says. An image that resembles no
training image is unknown. See trainer/postprocessing.

A bad image gets a blank row: probabilities, scores and embedding 0, class_id -1, label
and classes "", booleans False. In `predict_strict` it is an error (INVALID_ARGUMENT).
`classify` has the method name of TensorFlow Serving's Classify call, and the outputs
that this call accepts; see ClassificationRequest in TensorFlow Serving. `preparation`
tells a client how the training images were stored, the same n times; see StoredForm.
"""

from collections.abc import Sequence

import tensorflow as tf

from export.graph.safe_decoding import decode_rows
from export.protocol import messages
from pipeline import decoding
from pipeline.inspection.reencoding import StoredForm
from trainer.models.classifier import Classifier, compute_embedding, compute_head
from trainer.postprocessing.postprocessing import Postprocessing, make_reply

PREDICT_METHOD = "tensorflow/serving/predict"

# Name of an input or output -> its dtype and shape; -1 is any size.
Endpoints = dict[str, tuple[str, list[int]]]


def declare_signatures(
    num_classes: int, embedding_size: int
) -> dict[str, tuple[str, Endpoints, Endpoints]]:
    """Returns (method, inputs, outputs) of each signature; see the module."""
    strings, floats = ("string", [-1]), ("float", [-1, num_classes])
    strict = {
        "probabilities": floats,
        "class_id": ("int64", [-1]),
        "label": strings,
        "in_set": ("bool", [-1, num_classes]),
        "unknown_score": ("float", [-1]),
        "is_unknown": ("bool", [-1]),
    }
    decode_ok = {"decode_ok": ("bool", [-1])}
    embedding = {"embedding": ("float", [-1, embedding_size])}
    classes = {"classes": ("string", [-1, num_classes]), "scores": floats}
    image_bytes = {"image_bytes": strings}
    image = {"image": ("uint8", [-1, -1, -1, 3])}
    return {
        "serving_default": (PREDICT_METHOD, image_bytes, strict | decode_ok),
        "predict_strict": (PREDICT_METHOD, image_bytes, strict),
        "classify": (messages.CLASSIFY_METHOD, {"inputs": strings}, classes),
        "predict_pixels": (PREDICT_METHOD, image, strict),
        "features": (PREDICT_METHOD, image_bytes, embedding | decode_ok),
        "preparation": (
            PREDICT_METHOD,
            image_bytes,
            {"background": strings, "sample_bits": ("int64", [-1])},
        ),
    }


def hold_variables(classifier: Classifier) -> tf.Module:
    """Returns a module with each variable of the classifier once, to save it.

    It has no Keras model as an attribute: SavedModel would store its weights a second
    time.
    """
    module = tf.Module()
    module.weights = [
        variable.value
        for part in (classifier.backbone, classifier.head)
        for variable in part.weights
    ]
    return module


# Longer than 60 lines: each closure is one signature, and all share the two functions
# that compute the model.
def make_signatures(
    classifier: Classifier,
    classes: Sequence[str],
    postprocessing: Postprocessing,
    *,
    image_size: int,
    form: StoredForm,
) -> dict[str, tf.types.experimental.PolymorphicFunction]:
    """Builds the function of each signature; see the module.

    Decoding, normalisation and head are the functions that training uses.

    Args:
      classes: K names, in the order of the logits.
      postprocessing: makes replies of logits and embeddings.
      image_size: side of the square images that the classifier takes, in pixels.
      form: how the training images were stored.
    """
    class_names = tf.constant(list(classes))
    pixels = tf.TensorSpec([None, image_size, image_size, 3], tf.uint8)
    strings = tf.TensorSpec([None], tf.string)

    # With an input signature the SavedModel holds the model once for all signatures.
    @tf.function(autograph=False, input_signature=[pixels])
    def embed(images: tf.Tensor) -> tf.Tensor:
        return compute_embedding(classifier, images)

    @tf.function(autograph=False, input_signature=[pixels])
    def compute_reply(images: tf.Tensor) -> dict[str, tf.Tensor]:
        embedding = embed(images)
        logits = compute_head(classifier, embedding)
        return make_reply(postprocessing, logits, embedding)

    def predict(images: tf.Tensor, decode_ok: tf.Tensor) -> dict[str, tf.Tensor]:
        reply = {
            name: _blank_bad_rows(values, decode_ok)
            for name, values in compute_reply(images).items()
        }
        class_id = tf.argmax(reply["probabilities"], axis=1)
        return {
            **reply,
            "class_id": tf.where(decode_ok, class_id, -1),
            "label": tf.where(decode_ok, tf.gather(class_names, class_id), ""),
        }

    @tf.function(autograph=False, input_signature=[_named(strings, "image_bytes")])
    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, decode_ok = decode_rows(image_bytes, image_size, contained=True)
        return predict(images, decode_ok) | {"decode_ok": decode_ok}

    @tf.function(autograph=False, input_signature=[_named(strings, "image_bytes")])
    def predict_strict(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, decode_ok = decode_rows(image_bytes, image_size, contained=False)
        return predict(images, decode_ok)

    @tf.function(autograph=False, input_signature=[_named(strings, "inputs")])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        feature = {messages.CLASSIFY_KEY: tf.io.FixedLenFeature([], tf.string, "")}
        images, decode_ok = decode_rows(
            inputs,
            image_size,
            contained=True,
            find_image_bytes=lambda example: tf.io.parse_single_example(
                example, feature
            )[messages.CLASSIFY_KEY],
        )
        probabilities = _blank_bad_rows(
            compute_reply(images)["probabilities"], decode_ok
        )
        scores, order = tf.math.top_k(probabilities, k=len(classes))
        labels = tf.gather(class_names, order)
        labels = tf.where(decode_ok[:, tf.newaxis], labels, "")
        return {"classes": labels, "scores": scores}

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")],
    )
    def predict_pixels(image: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(image)[0]
        decode_ok = tf.fill([count], True)
        # No layer runs on an empty batch; see decode_rows.
        padding = [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]]
        images = decoding.resize(tf.pad(image, padding), image_size)
        return predict(images, decode_ok)

    @tf.function(autograph=False, input_signature=[_named(strings, "image_bytes")])
    def features(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, decode_ok = decode_rows(image_bytes, image_size, contained=True)
        embedding = tf.cast(embed(images), tf.float32)
        embedding = _blank_bad_rows(embedding, decode_ok)
        return {"embedding": embedding, "decode_ok": decode_ok}

    @tf.function(autograph=False, input_signature=[_named(strings, "image_bytes")])
    def preparation(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return make_preparation(tf.shape(image_bytes), form)

    functions = (serving_default, predict_strict, classify, predict_pixels, features)
    return {function.__name__: function for function in (*functions, preparation)}


def make_preparation(shape: tf.Tensor, form: StoredForm) -> dict[str, tf.Tensor]:
    """Returns the outputs of the signature `preparation`; shape: int32 [1]."""
    sample_bits = tf.constant(form.sample_bits or 16, tf.int64)
    return {
        "background": tf.fill(shape, form.background),
        "sample_bits": tf.fill(shape, sample_bits),
    }


def _named(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name=name)


def _blank_bad_rows(values: tf.Tensor, decode_ok: tf.Tensor) -> tf.Tensor:
    """Sets rows to 0 or False where decode_ok, bool [n], is False.

    values: [max(n, 1), ...], one or two dimensions.

    Returns:
      [n, ...]
    """
    rows = values[: tf.size(decode_ok)]
    is_good = decode_ok if len(rows.shape) == 1 else decode_ok[:, tf.newaxis]
    return tf.where(is_good, rows, tf.zeros((), rows.dtype))
