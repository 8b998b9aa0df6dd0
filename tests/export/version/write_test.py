import pytest
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

# The fixtures write a SavedModel and start a process.
pytestmark = pytest.mark.slow


def test_the_method_name_and_the_fingerprint_belong_together(saved_model):
    saved = saved_model_pb2.SavedModel.FromString(
        (saved_model / "saved_model.pb").read_bytes()
    )
    signature = saved.meta_graphs[0].signature_def["classify"]
    assert signature.method_name == "tensorflow/serving/classify"
    read = tf.saved_model.experimental.read_fingerprint(str(saved_model))
    fresh = fingerprinting.CreateFingerprintDef(str(saved_model))
    fresh = fingerprint_pb2.FingerprintDef.FromString(fresh)
    assert read.saved_model_checksum == fresh.saved_model_checksum
    assert read.signature_def_hash == fresh.signature_def_hash
