"""Trains both regimes as plain Keras does: the peers of time_to_result.py.

Each peer takes a folder with one folder a split (train, validation, test), and options
with the fields backbone, backbone_args (JSON), weights, head_epochs, finetune_epochs,
finetune_lr, freeze_layers, folder and out. It prints its figures as JSON on the last
line.
"""

import json
import os
import pathlib
import time

SEED = 1
SIDE, BATCH, HEAD_UNITS = 224, 64, 512


def image_data_generator(folder, options):
    import tensorflow as tf

    constructor, preprocess = find_backbone(options.backbone)
    generator = tf.keras.preprocessing.image.ImageDataGenerator
    changed = generator(
        preprocessing_function=preprocess,
        shear_range=0.2,
        zoom_range=0.2,
        horizontal_flip=True,
    )
    plain = generator(preprocessing_function=preprocess)
    sizes = {"target_size": (SIDE, SIDE), "batch_size": BATCH}
    train = changed.flow_from_directory(folder / "train", **sizes)
    validation, test = (
        plain.flow_from_directory(folder / split, shuffle=False, **sizes)
        for split in ("validation", "test")
    )
    base = build_base(constructor, options)
    fit(
        base,
        [base],
        train=train,
        validation=validation,
        test=test,
        options=options,
    )


def image_dataset_from_directory(folder, options):
    import keras
    import tensorflow as tf

    constructor, preprocess = find_backbone(options.backbone)

    def read(split, **shuffle):
        read_images = keras.utils.image_dataset_from_directory(
            folder / split,
            label_mode="categorical",
            image_size=(SIDE, SIDE),
            batch_size=BATCH,
            **shuffle,
        )
        return read_images.cache()

    train = read("train", seed=SEED).shuffle(1000).prefetch(tf.data.AUTOTUNE)
    validation, test = (
        read(split, shuffle=False).prefetch(tf.data.AUTOTUNE)
        for split in ("validation", "test")
    )
    base = build_base(constructor, options)
    augmentation = [
        keras.layers.RandomShear(x_factor=0.2, fill_mode="nearest"),
        keras.layers.RandomZoom(0.2, 0.2, fill_mode="nearest"),
        keras.layers.RandomFlip("horizontal"),
    ]
    first = [*augmentation, keras.layers.Lambda(preprocess), base]
    fit(
        base,
        first,
        train=train,
        validation=validation,
        test=test,
        options=options,
    )


def find_backbone(name):
    import keras

    constructor = getattr(keras.applications, name)
    module = constructor.__module__.rpartition(".")[2]
    return constructor, getattr(keras.applications, module).preprocess_input


def build_base(constructor, options):
    import keras

    keras.utils.set_random_seed(SEED)
    base = constructor(
        weights=None,
        include_top=False,
        input_shape=(SIDE, SIDE, 3),
        **json.loads(options.backbone_args),
    )
    base.load_weights(options.weights)
    return base


def fit(base, first_layers, *, train, validation, test, options):
    """Both regimes of the notebook, by compile() and fit()."""
    import keras

    classes = len(os.listdir(pathlib.Path(options.folder) / "train"))
    model = keras.Sequential(
        [
            *first_layers,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(HEAD_UNITS, activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    best = os.path.join(options.out, "best.weights.h5")
    found = {}
    for regime, rate, epochs in (
        ("head", 0.01, options.head_epochs),
        ("finetune", options.finetune_lr, options.finetune_epochs),
    ):
        start = time.monotonic()
        base.trainable = regime == "finetune"
        for layer in base.layers[: options.freeze_layers]:
            layer.trainable = False
        model.compile(
            keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
        )
        keep = keras.callbacks.ModelCheckpoint(
            best, monitor="val_accuracy", save_best_only=True, save_weights_only=True
        )
        model.fit(
            train,
            validation_data=validation,
            epochs=epochs,
            callbacks=[keep],
            verbose=2,
        )
        model.load_weights(best)
        found[f"{regime}_seconds"] = time.monotonic() - start
        found[f"{regime}_validation"] = model.evaluate(validation, verbose=0)[1]
    found["test"] = model.evaluate(test, verbose=0)[1]
    print("\n" + json.dumps(found))


PEERS = {
    "ImageDataGenerator": image_data_generator,
    "image_dataset_from_directory": image_dataset_from_directory,
}
