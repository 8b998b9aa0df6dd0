"""The tf.Module that is saved: one function a signature."""

from collections.abc import Sequence

import tensorflow as tf

from pipeline import preprocess
from trainer import model
from trainer.model import Classifier


class ServingModel(tf.Module):
    """Image bytes in, probabilities and labels out.

    Decoding, normalisation and head are the functions that training uses. The Keras
    model itself is not an attribute: SavedModel would store its weights a second time.
    """

    def __init__(
        self, classifier: Classifier, classes: Sequence[str], *, image_size: int
    ):
        super().__init__()
        self.variables_to_save = [
            variable.value for variable in classifier.model.weights
        ]
        self._label_names = tf.constant(list(classes))

        # A closure, not an attribute: see above.
        def predict(image_bytes):
            images = tf.map_fn(
                lambda one: preprocess.decode_and_resize(one, image_size),
                image_bytes,
                fn_output_signature=tf.TensorSpec(
                    [image_size, image_size, 3], tf.float32
                ),
            )
            logits = model.compute_logits(classifier, images)
            class_id = tf.argmax(logits, axis=1)
            return {
                "probabilities": tf.nn.softmax(logits),
                "class_id": class_id,
                "label": tf.gather(self._label_names, class_id),
            }

        self.serving_default = tf.function(
            predict,
            input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")],
        )
