"""The SavedModels and the inputs that serving.py measures.

`python benchmarks/serving_exports.py BACKBONE FOLDER` writes the models.
"""

import os
import pathlib
import sys

SIDE = 224
CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")
BATCH = 32


def make_exports(backbone, out):
    """Writes the four SavedModels; random weights compute as fast as any."""
    backbone_name, *arguments = backbone.split(",")
    import keras
    import tensorflow as tf

    from export.version.write import write_saved_model
    from pipeline import decoding
    from pipeline.sources import drawn_flowers
    from trainer.config.head_config import HeadConfig
    from trainer.models import backbones, freezing
    from trainer.models.batch_norm_folding import fold_batch_norm
    from trainer.models.classifier import (
        assemble,
        build_classifier,
        compute_embedding,
        compute_head,
    )
    from trainer.postprocessing.postprocessing import Postprocessing
    from trainer.postprocessing.unknown import fit_scorer

    keras.utils.set_random_seed(1)
    backbone_args = {
        name: float(value) for name, value in (pair.split("=") for pair in arguments)
    }
    backbone = backbones.build_backbone(backbone_name, backbone_args, image_size=SIDE)
    classifier = build_classifier(
        backbone,
        backbone_name,
        num_classes=len(CLASSES),
        head=HeadConfig("avg", units=128, dropout=0.2),
    )
    drawn = [
        decoding.decode_and_resize(
            tf.constant(drawn_flowers.draw_jpeg(label, index)), SIDE
        )
        for label in drawn_flowers.CLASSES
        for index in range(3)
    ]
    freezing.calibrate_batch_norm(classifier, tf.stack(drawn))
    embeddings = compute_embedding(classifier, tf.stack(drawn))
    logits = compute_head(classifier, embeddings).numpy()
    postprocessing = Postprocessing(
        temperature=0.8,
        coverage=0.9,
        min_set_probability=0.1,
        scorer=fit_scorer(embeddings.numpy(), logits),
        unknown_rate=0.05,
        unknown_threshold=0.0,
        val_count=len(drawn),
    )
    classifier.model.export(os.path.join(out, "keras"), verbose=False)

    module = tf.Module()
    module.weights = [weight.value for weight in classifier.model.weights]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def naive(image_bytes):
        def decode(one):
            pixels = tf.io.decode_jpeg(one, channels=3)
            return tf.image.resize(pixels, (SIDE, SIDE))

        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32)
        images = tf.ensure_shape(images, [None, SIDE, SIDE, 3])
        return {"probabilities": tf.nn.softmax(classifier.model(images))}

    tf.saved_model.save(
        module, os.path.join(out, "naive"), signatures={"serving_default": naive}
    )
    for precision in ("float32", "bfloat16"):
        folded = fold_batch_norm(classifier.backbone, precision=precision).model
        served = assemble(classifier.normalise, folded, classifier.head)
        write_saved_model(
            pathlib.Path(out, f"ours_{precision}"),
            served,
            CLASSES,
            postprocessing,
            image_size=SIDE,
        )


def write_inputs(photographs, folder):
    import numpy as np
    from PIL import Image

    paths = sorted(pathlib.Path(photographs).glob("*/*.jpg"))
    paths = paths[:: max(1, len(paths) // BATCH)][:BATCH]
    encoded = np.empty(len(paths), object)
    encoded[:] = [path.read_bytes() for path in paths]
    pixels = [
        np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE)))
        for path in paths
    ]
    arrays = {
        "photographs": encoded,
        "pixels": np.stack(pixels),
        "floats": np.stack(pixels).astype(np.float32),
    }
    for name, array in arrays.items():
        np.save(os.path.join(folder, f"{name}.npy"), array, allow_pickle=True)


if __name__ == "__main__":
    make_exports(*sys.argv[1:])
