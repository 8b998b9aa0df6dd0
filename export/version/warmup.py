"""Requests that a server answers before it lets a version be seen.

The first request of a graph plans it and allocates: seconds, not milliseconds. And a
version that was copied in part loads without complaint; its warm-up fails.
"""

import os
import pathlib

import numpy as np
import tensorflow as tf

from export.protocol import messages, tensors
from export.protocol.messages import classification_pb2, example_pb2, predict_pb2
from pipeline import decoding
from pipeline.sources import drawn_flowers

_SIDE_PX = 64


def write_warmup(saved_model_dir: pathlib.Path) -> int:
    """Writes one request for each signature and batch size; returns their number.

    The image in them is drawn: photographs may be nobody else's business.
    """
    drawn = decoding.decode(
        tf.constant(drawn_flowers.draw_jpeg(drawn_flowers.CLASSES[0], 0))
    )
    # Small, for it stands in the file some hundred times.
    pixels = tf.cast(decoding.resize(drawn, _SIDE_PX), tf.uint8).numpy()
    image_bytes = tf.io.encode_jpeg(pixels).numpy()
    feature = {messages.CLASSIFY_KEY: {"bytes_list": {"value": [image_bytes]}}}
    example = example_pb2.Example(features={"feature": feature})
    path = saved_model_dir / messages.WARMUP_FILE
    os.makedirs(path.parent, exist_ok=True)
    count = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in messages.WARMUP_BATCH_SIZES:
            encoded = np.array([image_bytes] * size, object)
            logs = [
                _predict("serving_default", "image_bytes", encoded),
                _predict("predict_strict", "image_bytes", encoded),
                _predict("features", "image_bytes", encoded),
                _predict("predict_pixels", "image", np.stack([pixels] * size)),
                _classify([example] * size),
            ]
            for log in logs:
                writer.write(log.SerializeToString())
                count += 1
    return count


def _predict(
    signature: str, key: str, array: np.ndarray
) -> messages.prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest(inputs={key: tensors.to_proto(array)})
    request.model_spec.name = messages.MODEL_NAME
    request.model_spec.signature_name = signature
    return messages.prediction_log_pb2.PredictionLog(predict_log={"request": request})


def _classify(examples: list) -> messages.prediction_log_pb2.PredictionLog:
    request = classification_pb2.ClassificationRequest(
        input={"example_list": {"examples": examples}}
    )
    request.model_spec.name = messages.MODEL_NAME
    request.model_spec.signature_name = "classify"
    return messages.prediction_log_pb2.PredictionLog(classify_log={"request": request})
