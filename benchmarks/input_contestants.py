"""Reads batches of photographs in several ways: the contestants of input.py.

Each contestant takes the folder of the photographs and the prepared data, and returns a
function that makes the iterator of one epoch.
"""

import itertools
import os
import pathlib
import tempfile

SIDE, BATCH, SEED = 224, 64, 1
CORES = len(os.sched_getaffinity(0))


def bare(folder, data):
    import tensorflow as tf

    encoded = [path.read_bytes() for path in sorted(folder.glob("*/*.jpg"))]

    def decode(image_bytes):
        image = tf.io.decode_jpeg(image_bytes, channels=3)
        return tf.image.resize(image, (SIDE, SIDE))

    options = tf.data.Options()
    options.autotune.enabled = False
    images = tf.data.Dataset.from_tensor_slices(encoded)
    images = images.map(decode, num_parallel_calls=CORES, deterministic=False)
    return lambda: images.with_options(options).skip(len(encoded) - 1)


def image_data_generator(folder, data):
    import tensorflow as tf

    generator = tf.keras.preprocessing.image.ImageDataGenerator()
    return lambda: flow(generator, folder)


def image_data_generator_augmented(folder, data):
    import tensorflow as tf

    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        shear_range=0.2, zoom_range=0.2, horizontal_flip=True
    )
    return lambda: flow(generator, folder)


def flow(generator, folder):
    batches = generator.flow_from_directory(
        folder, target_size=(SIDE, SIDE), batch_size=BATCH
    )
    return (batches[index] for index in range(len(batches)))


def image_dataset_from_directory(folder, data):
    import keras
    import tensorflow as tf

    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=BATCH, seed=SEED, verbose=False
    )
    return lambda: images.prefetch(tf.data.AUTOTUNE)


def tfds_as_is(folder, data):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data)
    images = builder.as_dataset(split="train", shuffle_files=True)
    images = images.map(
        lambda example: (
            tf.image.resize(example["image"], (SIDE, SIDE)),
            example["label"],
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return lambda: images.shuffle(1000).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def torch_data_loader(folder, data):
    from torch.utils.data import DataLoader
    from torchvision import datasets
    from torchvision.transforms import v2

    shape = v2.Compose([v2.Resize((SIDE, SIDE)), v2.PILToTensor()])
    loader = DataLoader(
        datasets.ImageFolder(folder, shape),
        batch_size=BATCH,
        shuffle=True,
        num_workers=CORES,
        persistent_workers=True,
    )
    return lambda: loader


def ours(data, *, cached, augmented=False, decoded=False):
    import tensorflow as tf

    from pipeline.augmentation import counter_rng
    from pipeline.augmentation.augmenter import build_augmenter
    from pipeline.loading import order, prepared_data
    from pipeline.loading.dataset import make_train_dataset

    records = prepared_data.read_records(data, "train", cached=cached)
    if decoded:
        records = keep_decoded(records)
    change = build_augmenter("basic")

    @tf.function
    def augment_batch(batch):
        seeds = counter_rng.row_seeds(tf.constant([SEED, 0]), batch["position"])
        return change(batch["image"], seeds)

    # As the trainer reads: one iterator for all epochs.
    batches = iter(
        make_train_dataset(
            records,
            image_size=SIDE,
            batch_size=BATCH,
            epoch=1,
            seed=SEED,
        )
    )
    batches = map(augment_batch, batches) if augmented else batches
    steps = order.num_batches(records.count, BATCH)
    return lambda: itertools.islice(batches, steps)


def keep_decoded(records):
    """Returns the records with their decoded images, as --cache=disk keeps them."""
    from trainer.distribution.runtime import set_up_runtime
    from trainer.features.cache import cache_images
    from trainer.features.cache_dir import FeatureCache

    runtime = set_up_runtime(
        strategy="one_device",
        precision="float32",
        virtual_devices=1,
        batch_size=BATCH,
        seed=SEED,
    )
    with tempfile.TemporaryDirectory() as folder:
        return cache_images(
            runtime,
            FeatureCache(pathlib.Path(folder), 10**11, {}),
            records,
            split="train",
            image_size=SIDE,
            batch_size=BATCH,
        )


CONTESTANTS = {
    "bare decoding and resizing": bare,
    "ours, --cache=off": lambda folder, data: ours(data, cached=False),
    "ours, --cache=memory": lambda folder, data: ours(data, cached=True),
    "ours, --cache=disk": lambda folder, data: ours(data, cached=False, decoded=True),
    "TFDS as it is": tfds_as_is,
    "image_dataset_from_directory": image_dataset_from_directory,
    "PyTorch DataLoader": torch_data_loader,
    "ImageDataGenerator": image_data_generator,
    "ImageDataGenerator, augmented": image_data_generator_augmented,
    "ours, augmented": lambda folder, data: ours(data, cached=True, augmented=True),
}
BASELINES = {
    "bare decoding and resizing": "x bare",
    "ImageDataGenerator, augmented": "x the augmented generator",
}
