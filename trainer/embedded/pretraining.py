"""Trains MobileNet 0.25 to distinguish drawn things."""

import concurrent.futures
import functools
import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.system import console
from trainer.embedded.drawn_things import KINDS, draw_thing

if TYPE_CHECKING:
    import keras

_IMAGE_SIZE = 96
_MARGIN = 12  # pixels by which a stored picture is larger, for random crops
_LEARNING_RATE = 0.004
_WARMUP_STEPS = 300
_WEIGHT_DECAY = 0.02
_LABEL_SMOOTHING = 0.1
_VALIDATION_PER_KIND = 20


def pretrain(
    out: str, *, per_kind: int, epochs: int, batch_size: int, seed: int
) -> float:
    """Trains MobileNet 0.25 on drawn things and writes its weights.

    Returns:
      The accuracy on pictures that it was not trained on.
    """
    with console.quiet_tensorflow_import():
        import keras
        import tensorflow as tf

    keras.utils.set_random_seed(seed)
    drawn_per_kind = per_kind + _VALIDATION_PER_KIND
    images, labels = draw_pictures(drawn_per_kind, seed=seed)
    one_hot = keras.utils.to_categorical(labels, len(KINDS))
    is_training = np.arange(len(labels)) % drawn_per_kind < per_kind
    border = slice(_MARGIN // 2, -_MARGIN // 2)
    validation = (images[~is_training][:, border, border], one_hot[~is_training])

    def crop(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.random_crop(image, (_IMAGE_SIZE, _IMAGE_SIZE, 3))
        return tf.image.random_flip_left_right(image), label

    training = (
        tf.data.Dataset.from_tensor_slices((images[is_training], one_hot[is_training]))
        .shuffle(len(labels))
        .map(crop, tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(2)
    )
    backbone = keras.applications.MobileNet(
        weights=None,
        alpha=0.25,
        include_top=False,
        input_shape=(_IMAGE_SIZE, _IMAGE_SIZE, 3),
    )
    model = _compile_model(backbone, steps=epochs * len(training))
    # The data set is shuffled already; Keras would warn that it cannot do it again.
    model.fit(
        training,
        epochs=epochs,
        shuffle=False,
        validation_data=validation,
        verbose=2,
    )
    backbone.save_weights(out)
    return model.evaluate(*validation, verbose=0)[1]


def _compile_model(backbone: "keras.Model", *, steps: int) -> "keras.Model":
    import keras

    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, steps - _WARMUP_STEPS),
        warmup_target=_LEARNING_RATE,
        warmup_steps=_WARMUP_STEPS,
    )
    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            backbone,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(KINDS)),
        ]
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY),
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=_LABEL_SMOOTHING
        ),
        metrics=["accuracy"],
    )
    return model


def draw_pictures(per_kind: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures uint8 [N, S, S, 3] and their labels int64 [N].

    S: the image size and the margin for random crops.
    """
    kinds = [kind for kind in KINDS for _ in range(per_kind)]
    indexes = list(range(per_kind)) * len(KINDS)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(
            functools.partial(_draw_square, seed=seed), kinds, indexes, chunksize=50
        )
        images = np.stack(list(drawn))
    return images, np.repeat(np.arange(len(KINDS)), per_kind)


def _draw_square(kind: str, index: int, *, seed: int) -> np.ndarray:
    side = _IMAGE_SIZE + _MARGIN
    image = draw_thing(kind, index, seed=seed)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
