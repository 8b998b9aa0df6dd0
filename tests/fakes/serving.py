"""Writes servable models and runs the local server."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import numpy as np

from fakes.images import colour_jpeg
from fakes.processes import REPOSITORY
from pipeline.inspection.reencoding import StoredForm

COLOURS = ("red", "green", "blue")


def count_warm_up_requests() -> int:
    """Returns how many requests an export's warm-up file has."""
    from export.graph.signatures import declare_signatures
    from export.protocol import messages

    return len(declare_signatures(5, 8)) * len(messages.WARMUP_BATCH_SIZES)


def write_servable(
    directory: pathlib.Path, *, suffix: str = "", form: StoredForm = StoredForm()
) -> pathlib.Path:
    """A SavedModel with an export's signatures that tells the colour of a picture.

    suffix: goes behind the class names, to tell versions apart.
    form: what the signature `preparation` tells.
    """
    import tensorflow as tf

    from export.graph.safe_decoding import decode_rows
    from export.graph.signatures import make_preparation
    from export.protocol import messages, tensors

    side = 8
    names = tf.constant([f"{colour}{suffix}" for colour in COLOURS])
    strings = tf.TensorSpec([None], tf.string)
    module = tf.Module()
    module.scale = tf.Variable(25.0)

    def mean_of(images):
        return tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])

    def probabilities_of(images):
        return tf.nn.softmax(mean_of(images) / module.scale)

    def describe(images, ok):
        probabilities = probabilities_of(images)[: tf.size(ok)]
        class_id = tf.argmax(probabilities, axis=1)
        return {
            "probabilities": tf.where(ok[:, tf.newaxis], probabilities, 0.0),
            "class_id": tf.where(ok, class_id, -1),
            "label": tf.where(ok, tf.gather(names, class_id), ""),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def serving_default(image_bytes):
        images, ok = decode_rows(image_bytes, side, contained=True)
        return describe(images, ok) | {"decode_ok": ok}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def predict_strict(image_bytes):
        images, ok = decode_rows(image_bytes, side, contained=False)
        return describe(images, ok)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(inputs):
        feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string, "")}
        encoded = tf.io.parse_example(inputs, feature)["image/encoded"]
        images, ok = decode_rows(encoded, side, contained=True)
        scores, order = tf.math.top_k(probabilities_of(images)[: tf.size(ok)], k=3)
        return {"classes": tf.gather(names, order), "scores": scores}

    pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, "image")

    @tf.function(input_signature=[pixels])
    def predict_pixels(image):
        ok = tf.fill(tf.shape(image)[:1], True)
        return describe(image, ok)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def features(image_bytes):
        images, ok = decode_rows(image_bytes, side, contained=True)
        embedding = mean_of(images)[: tf.size(ok)]
        return {"embedding": embedding, "decode_ok": ok}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def preparation(image_bytes):
        return make_preparation(tf.shape(image_bytes), form)

    @tf.function(input_signature=[strings])
    def echo(text):
        return {"text_bytes": text, "text": text}

    functions = (serving_default, predict_strict, classify, predict_pixels, features)
    signatures = {each.__name__: each for each in (*functions, preparation, echo)}
    tf.saved_model.save(module, str(directory), signatures)
    saved = directory / "saved_model.pb"
    # TensorFlow 2 knows no other method than predict.
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString(saved.read_bytes())
    declared = message.meta_graphs[0].signature_def["classify"]
    declared.method_name = "tensorflow/serving/classify"
    saved.write_bytes(message.SerializeToString())
    warmup = directory / messages.WARMUP_FILE
    warmup.parent.mkdir()
    log = messages.prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = messages.MODEL_NAME
    request.inputs["image_bytes"].CopyFrom(
        tensors.to_proto(np.array([colour_jpeg("red")], object))
    )
    with tf.io.TFRecordWriter(str(warmup)) as writer:
        writer.write(log.SerializeToString())
    return directory


def publish(model: pathlib.Path, export_dir: pathlib.Path, version: int) -> None:
    """A copy of a SavedModel becomes a version, whole at once."""
    aside = export_dir / f".tmp-{version}"
    shutil.copytree(model, aside)
    aside.rename(export_dir / str(version))


class Server:
    """export.serve as a process of its own, on free ports; use it in a `with`."""

    def __init__(self, export_dir: pathlib.Path, *flags: str):
        self.export_dir = export_dir
        self._flags = flags
        self.lines: list[str] = []

    def __enter__(self):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "export.serve", "--port=0", "--rest_port=0"),
                *(f"--export_dir={self.export_dir}", *self._flags),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        line = self.wait_for("serving ")
        self.grpc, self.rest = re.fullmatch(
            r"serving photographs: gRPC on (\S+), REST on http://(\S+)/v1/.*", line
        ).groups()
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=30)
        self._reader.join()
        self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, text: str, *, count: int = 1, seconds: float = 60) -> str:
        """The count-th line that holds a text, once it is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [line for line in list(self.lines) if text in line]
            if len(found) >= count:
                return found[count - 1]
            if not self._reader.is_alive():
                break
            time.sleep(0.02)
        raise AssertionError(f"no line {text!r} in {self.lines}")
