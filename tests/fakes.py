"""The only shared test code: real small photographs on disk and a tiny backbone."""

import contextlib
import functools
import io
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

REPOSITORY = pathlib.Path(__file__).parent.parent
CLASSES = ("circle", "square", "stripe")

# With it, seed 1 gives every class to every split from 25 images a class on.
_SALT = 2

# The smallest real backbone: 0.2 million parameters, 86 layers.
TINY_MODEL_FLAGS = (
    "--backbone=MobileNet",
    "--backbone_args=alpha=0.25",
    "--weights=random",
    "--image_size=32",
    "--batch_size=8",
    "--head_units=16",
    "--precision=float32",
)


def draw(label: str, index: int) -> Image.Image:
    """A shape of random place and colour on noise; differs with each index."""
    rng = np.random.default_rng([CLASSES.index(label), index, _SALT])
    width, height = (int(side) for side in rng.integers(40, 64, 2))
    noise = rng.integers(0, 90, (height, width, 3))
    image = Image.fromarray(noise.astype(np.uint8))
    pencil = ImageDraw.Draw(image)
    colour = tuple(int(channel) for channel in rng.integers(120, 255, 3))
    x, y = (int(offset) for offset in rng.integers(2, 15, 2))
    box = (x, y, x + 24, y + 24)
    if label == "circle":
        pencil.ellipse(box, fill=colour)
    elif label == "square":
        pencil.rectangle(box, fill=colour)
    else:
        ends = [int(end) for end in rng.integers(0, 40, 4)]
        pencil.line(ends, fill=colour, width=5)
    return image


def write_folder(folder: pathlib.Path, *, per_class: int = 20) -> pathlib.Path:
    """Writes one folder of JPEG files a class."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for index in range(per_class):
            path = folder / label / f"{index:02d}.jpg"
            draw(label, index).save(path, quality=90)
    return folder


@functools.cache
def one_device_runtime():
    """The process's one strategy; other strategies are tested in a subprocess."""
    from trainer.distribution.runtime import set_up_runtime

    return set_up_runtime(
        strategy="one_device",
        precision="float32",
        virtual_devices=1,
        batch_size=8,
        seed=1,
    )


def make_classifier():
    """The tiny model, always the same, with features of a sensible scale.

    Untrained batch norm would let every feature vanish and hide what a test looks for,
    so its statistics are taken from photographs.
    """
    import keras
    import tensorflow as tf

    from trainer.models import backbones, freezing
    from trainer.models.classifier import build_classifier

    keras.utils.set_random_seed(5)
    backbone = backbones.build_backbone("MobileNet", {"alpha": 0.25}, image_size=32)
    classifier = build_classifier(
        backbone,
        "MobileNet",
        num_classes=len(CLASSES),
        pooling="avg",
        head_units=16,
        dropout=0.0,
    )
    drawn = [
        np.asarray(draw(label, index).resize((32, 32)))
        for label in CLASSES
        for index in range(16)
    ]
    freezing.calibrate_batch_norm(classifier, tf.constant(np.stack(drawn), tf.float32))
    return classifier


def train(run, train_steps, records, *, epochs: int, seed: int, **sizes: int) -> list:
    """Each epoch's mean loss and accuracy."""
    from pipeline.loading.order import num_batches
    from trainer.training import loop

    batches = loop.start_reading(run, records, epoch=1, seed=seed, **sizes)
    steps = num_batches(records.count, sizes["batch_size"])
    found = []
    for epoch in range(1, epochs + 1):
        updates = list(
            loop.train_epoch(train_steps, batches, steps=steps, epoch=epoch, seed=seed)
        )
        loss = sum(sum(update.losses) for update in updates)
        correct = sum(sum(update.corrects) for update in updates)
        found.append((loss / records.count, correct / records.count))
    return found


def run(*arguments: str, timeout_seconds: float = 300) -> subprocess.CompletedProcess:
    """Runs a Python command line in the repository, as a user would."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


def run_workers(*commands: Sequence[str]) -> tuple[list[int], list[str]]:
    """Runs Python command lines as the workers of one cluster, the chief first.

    Returns:
      each one's exit status, and all that it said.
    """
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in commands]
        for probe in probes:
            probe.bind(("localhost", 0))
        hosts = [f"localhost:{probe.getsockname()[1]}" for probe in probes]
    with contextlib.ExitStack() as stack:
        processes, logs = [], []
        # Of a cluster that hangs none is left behind.
        stack.callback(lambda: [process.kill() for process in processes])
        for index, command in enumerate(commands):
            task = {"type": "worker", "index": index}
            tf_config = json.dumps({"cluster": {"worker": hosts}, "task": task})
            logs.append(stack.enter_context(tempfile.TemporaryFile("w+")))
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    cwd=REPOSITORY,
                    env={
                        **os.environ,
                        "CUDA_VISIBLE_DEVICES": "",
                        "TF_CONFIG": tf_config,
                    },
                    stdout=logs[-1],
                    stderr=subprocess.STDOUT,
                )
            )
        codes = [process.wait(timeout=300) for process in processes]
        for log in logs:
            log.seek(0)
        outputs = [log.read() for log in logs]
    return codes, outputs


COLOURS = ("red", "green", "blue")


def write_servable(directory: pathlib.Path, *, suffix: str = "") -> pathlib.Path:
    """A SavedModel with an export's signatures that tells the colour of a picture.

    suffix: goes behind the class names, to tell versions apart.
    """
    import tensorflow as tf

    from export.graph.safe_decoding import decode_rows
    from export.protocol import messages, tensors

    side = 8
    names = tf.constant([f"{colour}{suffix}" for colour in COLOURS])
    strings = tf.TensorSpec([None], tf.string)
    module = tf.Module()
    module.scale = tf.Variable(25.0)

    def probabilities_of(images):
        return tf.nn.softmax(tf.reduce_mean(images, [1, 2]) / module.scale)

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
        return describe(tf.cast(image, tf.float32), ok)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def features(image_bytes):
        images, ok = decode_rows(image_bytes, side, contained=True)
        embedding = tf.reduce_mean(images, [1, 2])[: tf.size(ok)]
        return {"embedding": embedding, "decode_ok": ok}

    @tf.function(input_signature=[strings])
    def echo(text):
        return {"text_bytes": text, "text": text}

    functions = (serving_default, predict_strict, classify, predict_pixels, features)
    signatures = {each.__name__: each for each in (*functions, echo)}
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


def colour_jpeg(colour: str, *, side: int = 16) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "JPEG")
    return file.getvalue()


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
