"""What a SavedModel must pass before anybody sees it.

Each gate gives the problems it finds, as sentences; none at all opens it.
"""

from collections.abc import Sequence

import tensorflow as tf

from export.graph.safe_decoding import decode_rows
from export.protocol import messages
from pipeline import decoding
from trainer.models.classifier import Classifier, compute_embedding, compute_logits

PREDICT_METHOD = "tensorflow/serving/predict"


def declare_signatures(num_classes: int, embedding_size: int) -> dict:
    """Signature -> (method, inputs, outputs); each input and output: (dtype, shape)."""
    strings, floats = ("string", [-1]), ("float", [-1, num_classes])
    strict = {"probabilities": floats, "class_id": ("int64", [-1]), "label": strings}
    ok = {"decode_ok": ("bool", [-1])}
    embedding = {"embedding": ("float", [-1, embedding_size])}
    classes = {"classes": ("string", [-1, num_classes]), "scores": floats}
    image_bytes = {"image_bytes": strings}
    image = {"image": ("uint8", [-1, -1, -1, 3])}
    return {
        "serving_default": (PREDICT_METHOD, image_bytes, strict | ok),
        "predict_strict": (PREDICT_METHOD, image_bytes, strict),
        "classify": (messages.CLASSIFY_METHOD, {"inputs": strings}, classes),
        "predict_pixels": (PREDICT_METHOD, image, strict),
        "features": (PREDICT_METHOD, image_bytes, embedding | ok),
    }


def hold_variables(classifier: Classifier) -> tf.Module:
    """What is saved along with the signatures: each variable once.

    Of the Keras models nothing may be an attribute, or SavedModel stores their weights
    a second time.
    """
    module = tf.Module()
    module.weights = [
        variable.value
        for part in (classifier.backbone, classifier.head)
        for variable in part.weights
    ]
    return module


def make_signatures(
    classifier: Classifier, classes: Sequence[str], *, image_size: int
) -> dict[str, tf.types.experimental.PolymorphicFunction]:
    """Signature name -> function; what each takes and gives stands in its docstring.

    Decoding, normalisation and head are the function objects that training uses. The
    first dimension is the batch everywhere, and of any size, 0 included. A row that is
    no image has probabilities 0, class -1 and an empty label.
    """
    names = tf.constant(list(classes))
    pixels = tf.TensorSpec([None, image_size, image_size, 3], tf.float32)
    strings = tf.TensorSpec([None], tf.string)

    # Once in the file, not once a signature.
    @tf.function(autograph=False, input_signature=[pixels])
    def probabilities_of(images):
        logits = compute_logits(classifier, images)
        return tf.nn.softmax(tf.cast(logits, tf.float32))

    @tf.function(autograph=False, input_signature=[pixels])
    def embedding_of(images):
        return tf.cast(compute_embedding(classifier, images), tf.float32)

    def describe(images, ok):
        probabilities = _blank(probabilities_of(images), ok, 0.0)
        class_id = tf.argmax(probabilities, axis=1)
        return {
            "probabilities": probabilities,
            "class_id": tf.where(ok, class_id, -1),
            "label": tf.where(ok, tf.gather(names, class_id), ""),
        }

    @tf.function(autograph=False, input_signature=[_named(strings, "image_bytes")])
    def serving_default(image_bytes):
        """image_bytes string [n] -> probabilities float32 [n, K], class_id int64 [n],
        label string [n], decode_ok bool [n]."""
        images, ok = decode_rows(image_bytes, image_size, contained=True)
        return describe(images, ok) | {"decode_ok": ok}

    @tf.function(autograph=False, input_signature=[_named(strings, "image_bytes")])
    def predict_strict(image_bytes):
        """As serving_default, but a bad image is an error."""
        images, ok = decode_rows(image_bytes, image_size, contained=False)
        return describe(images, ok)

    @tf.function(autograph=False, input_signature=[_named(strings, "inputs")])
    def classify(inputs):
        """inputs string [n], tf.train.Example with image/encoded -> classes string
        [n, K], scores float32 [n, K], best first; see ClassificationRequest."""
        feature = {messages.CLASSIFY_KEY: tf.io.FixedLenFeature([], tf.string, "")}
        images, ok = decode_rows(
            inputs,
            image_size,
            contained=True,
            find_image_bytes=lambda example: tf.io.parse_single_example(
                example, feature
            )[messages.CLASSIFY_KEY],
        )
        probabilities = _blank(probabilities_of(images), ok, 0.0)
        scores, order = tf.math.top_k(probabilities, k=len(classes))
        labels = tf.where(ok[:, tf.newaxis], tf.gather(names, order), "")
        return {"classes": labels, "scores": scores}

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")],
    )
    def predict_pixels(image):
        """image uint8 [n, H, W, 3], RGB, upright -> as predict_strict."""
        count = tf.shape(image)[0]
        ok = tf.fill([count], True)
        one_more = [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]]
        return describe(decoding.resize(tf.pad(image, one_more), image_size), ok)

    @tf.function(autograph=False, input_signature=[_named(strings, "image_bytes")])
    def features(image_bytes):
        """image_bytes string [n] -> embedding float32 [n, D], decode_ok bool [n]."""
        images, ok = decode_rows(image_bytes, image_size, contained=True)
        return {"embedding": _blank(embedding_of(images), ok, 0.0), "decode_ok": ok}

    functions = (serving_default, predict_strict, classify, predict_pixels, features)
    return {function.__name__: function for function in functions}


def _named(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name=name)


def _blank(values: tf.Tensor, ok: tf.Tensor, blank: float) -> tf.Tensor:
    """[max(n, 1), D], bool [n] -> [n, D]: blank where not ok."""
    return tf.where(ok[:, tf.newaxis], values[: tf.size(ok)], blank)
