"""Writes the requests that a server answers while it loads a version.

The first request of a graph plans it and allocates memory, which takes seconds and not
milliseconds. The requests also check that the version was copied completely: a model
without its weights loads, and only its first request fails.
"""

import pathlib

import numpy as np
import tensorflow as tf

from export.protocol import messages, tensors
from export.protocol.messages import (
    classification_pb2,
    example_pb2,
    predict_pb2,
    prediction_log_pb2,
)
from pipeline import decoding
from pipeline.sources import drawn_flowers

_SIDE_PX = 32


def write_warmup(saved_model_dir: pathlib.Path) -> None:
    """Writes one request for each signature and batch size.

    The image in the requests is synthetic, so that no private photograph is shipped
    with the model.
    """
    drawn = decoding.decode(
        tf.constant(drawn_flowers.draw_jpeg(drawn_flowers.CLASSES[0], 0))
    )
    # Small: the file holds the image some three hundred times.
    pixels = decoding.resize(drawn, _SIDE_PX).numpy()
    image_bytes = tf.io.encode_jpeg(pixels).numpy()
    path = saved_model_dir / messages.WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch_size in messages.WARMUP_BATCH_SIZES:
            for log in _make_logs(image_bytes, pixels, batch_size):
                writer.write(log.SerializeToString())


def _make_logs(
    image_bytes: bytes, pixels: np.ndarray, batch_size: int
) -> list[prediction_log_pb2.PredictionLog]:
    """Makes one request for each signature, with `batch_size` copies of an image."""
    encoded = np.array([image_bytes] * batch_size, object)
    feature = {messages.CLASSIFY_KEY: {"bytes_list": {"value": [image_bytes]}}}
    example = example_pb2.Example(features={"feature": feature})
    return [
        _predict_log("serving_default", "image_bytes", encoded),
        _predict_log("predict_strict", "image_bytes", encoded),
        _predict_log("features", "image_bytes", encoded),
        _predict_log("preparation", "image_bytes", encoded),
        _predict_log("predict_pixels", "image", np.stack([pixels] * batch_size)),
        _classify_log([example] * batch_size),
    ]


def _predict_log(
    signature: str, key: str, array: np.ndarray
) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest(inputs={key: tensors.to_proto(array)})
    request.model_spec.name = messages.MODEL_NAME
    request.model_spec.signature_name = signature
    return prediction_log_pb2.PredictionLog(predict_log={"request": request})


def _classify_log(
    examples: list[example_pb2.Example],
) -> prediction_log_pb2.PredictionLog:
    request = classification_pb2.ClassificationRequest(
        input={"example_list": {"examples": examples}}
    )
    request.model_spec.name = messages.MODEL_NAME
    request.model_spec.signature_name = "classify"
    return prediction_log_pb2.PredictionLog(classify_log={"request": request})
