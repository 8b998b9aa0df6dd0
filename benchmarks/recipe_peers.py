"""The peers of recipes.py: each returns its accuracy on the test photographs.

A peer gets `split_of` (name -> split; the class is the name's folder), the folder of
the photographs and the weights of MobileNet (alpha 0.25), so that all of them start
from the same network.
"""

import json
import pathlib
import subprocess
import tempfile

import numpy as np
import tables

SIDE = 224
FASTAI_PEER = pathlib.Path(__file__).with_name("fastai_peer.py")


def build_backbone(weights, pooling=None):
    import keras

    return keras.applications.MobileNet(
        alpha=0.25,
        include_top=False,
        weights=weights,
        pooling=pooling,
        input_shape=(SIDE, SIDE, 3),
    )


def read_images(photographs, names):
    """Returns the photographs as a data set of float32 [SIDE, SIDE, 3], [0, 255]."""
    import tensorflow as tf

    def decode(name):
        path = tf.strings.join([str(photographs), "/", name])
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(image, (SIDE, SIDE))

    return tf.data.Dataset.from_tensor_slices(list(names)).map(
        decode, num_parallel_calls=tf.data.AUTOTUNE
    )


def compute_features(photographs, names, weights):
    """Returns the pooled features of plain Keras, float32 [N, D]."""
    import keras

    preprocess = keras.applications.mobilenet.preprocess_input
    images = read_images(photographs, names).batch(64).map(preprocess)
    return build_backbone(weights, "avg").predict(images, verbose=0)


def scikit_learn(features_of, split_of):
    """LogisticRegression on `features_of` (name -> features), without augmentation.

    Of seven values of C, the one with the best validation accuracy.
    """
    from sklearn.linear_model import LogisticRegression

    features, labels = {}, {}
    for split in ("train", "validation", "test"):
        names = [name for name, each in split_of.items() if each == split]
        features[split] = np.stack([features_of[name] for name in names])
        labels[split] = [name.split("/")[0] for name in names]
    models = [
        LogisticRegression(C=c, max_iter=5000).fit(features["train"], labels["train"])
        for c in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    ]
    best = max(
        models, key=lambda m: m.score(features["validation"], labels["validation"])
    )
    return best.score(features["test"], labels["test"])


def keras_guide(photographs, weights, split_of):
    """The recipe of keras.io's guide "Transfer learning & fine-tuning".

    Flips and rotations by a tenth of a turn, dropout 0.2, 20 epochs of the head with
    Adam, 10 of the whole network with Adam at 1e-5; batch norm is never trained.
    Batches of 32, not of 64, because there are few photographs.
    """
    import keras

    keras.utils.set_random_seed(1)
    classes = sorted({name.split("/")[0] for name in split_of})
    images = {}
    for split in ("train", "validation", "test"):
        names = [name for name, each in split_of.items() if each == split]
        labels = np.array([classes.index(name.split("/")[0]) for name in names])
        pixels = np.stack(list(read_images(photographs, names).as_numpy_iterator()))
        images[split] = pixels, labels
    base = build_backbone(weights)
    base.trainable = False
    inputs = keras.Input((SIDE, SIDE, 3))
    changed = keras.layers.RandomFlip("horizontal")(inputs)
    changed = keras.layers.RandomRotation(0.1)(changed)
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(changed)
    pooled = keras.layers.GlobalAveragePooling2D()(base(scaled, training=False))
    logits = keras.layers.Dense(len(classes))(keras.layers.Dropout(0.2)(pooled))
    model = keras.Model(inputs, logits)
    for rate, epochs in ((1e-3, 20), (1e-5, 10)):
        model.compile(
            keras.optimizers.Adam(rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(
            *images["train"],
            batch_size=32,
            epochs=epochs,
            validation_data=images["validation"],
            verbose=0,
        )
        base.trainable = True
    return model.evaluate(*images["test"], verbose=0)[1]


def fastai(csv_path, weights, python):
    """fastai's fine_tune(), in the environment of the interpreter `python`.

    Writes the backbone's arrays, and what they give for an image, so that
    fastai_peer.py can build the same network in PyTorch and prove it.
    """
    backbone = build_backbone(weights)
    probe = np.random.default_rng(1).uniform(-1, 1, (1, SIDE, SIDE, 3))
    with tempfile.TemporaryDirectory() as folder:
        arrays = pathlib.Path(folder, "backbone.npz")
        np.savez(
            arrays,
            *backbone.get_weights(),
            probe=probe.astype(np.float32),
            features=backbone.predict(probe.astype(np.float32), verbose=0),
        )
        completed = subprocess.run(
            [python, str(FASTAI_PEER), str(csv_path), str(arrays)],
            cwd=tables.ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(completed.stdout.splitlines()[-1])["test"]
