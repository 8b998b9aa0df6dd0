"""From a finished run to a verified, versioned SavedModel."""

import pathlib
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from export.graph.signatures import hold_variables, make_signatures
from export.protocol import messages
from export.version.warmup import write_warmup
from trainer.models.classifier import Classifier


def write_saved_model(
    saved_model_dir: pathlib.Path,
    classifier: Classifier,
    classes: Sequence[str],
    *,
    image_size: int,
) -> None:
    """Writes the SavedModel and its warm-up."""
    tf.saved_model.save(
        hold_variables(classifier),
        str(saved_model_dir),
        signatures=make_signatures(classifier, classes, image_size=image_size),
    )
    # TensorFlow 2 calls every signature a predict one; Classify asks for its own name.
    path = saved_model_dir / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        meta_graph.signature_def["classify"].method_name = messages.CLASSIFY_METHOD
    path.write_bytes(saved.SerializeToString(deterministic=True))
    fingerprint = fingerprinting.CreateFingerprintDef(str(saved_model_dir))
    (saved_model_dir / "fingerprint.pb").write_bytes(fingerprint)
    write_warmup(saved_model_dir)
