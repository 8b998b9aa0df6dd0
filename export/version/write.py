"""Writes a SavedModel with its signatures and its warm-up requests."""

import pathlib
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from export.graph.signatures import hold_variables, make_signatures
from export.protocol import messages
from export.version.warmup import write_warmup
from pipeline.inspection.reencoding import StoredForm
from trainer.models.classifier import Classifier
from trainer.postprocessing.postprocessing import Postprocessing


def write_saved_model(
    saved_model_dir: pathlib.Path,
    classifier: Classifier,
    classes: Sequence[str],
    postprocessing: Postprocessing,
    *,
    image_size: int,
    form: StoredForm = StoredForm(),
) -> None:
    """Writes the SavedModel and its warm-up requests.

    Args:
      saved_model_dir: a directory that does not exist yet, or is empty.
      classes: K names, in the order of the logits.
      postprocessing: makes replies of logits and embeddings.
      image_size: side of the square images that the classifier takes, in pixels.
      form: how the training images were stored.

    Raises:
      OSError: the disk is full or fails.
    """
    try:
        tf.saved_model.save(
            hold_variables(classifier),
            str(saved_model_dir),
            signatures=make_signatures(
                classifier, classes, postprocessing, image_size=image_size, form=form
            ),
        )
        _set_classify_method(saved_model_dir)
        write_warmup(saved_model_dir)
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _set_classify_method(saved_model_dir: pathlib.Path) -> None:
    """Gives `classify` the method name that TensorFlow Serving's Classify requires.

    TensorFlow 2 writes the method name of Predict for every signature. The fingerprint
    contains a hash of the signatures, so it is computed again.
    """
    path = saved_model_dir / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        meta_graph.signature_def["classify"].method_name = messages.CLASSIFY_METHOD
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
    fingerprint = fingerprinting.CreateFingerprintDef(str(saved_model_dir))
    (saved_model_dir / "fingerprint.pb").write_bytes(fingerprint)
