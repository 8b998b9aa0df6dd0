"""Builds requests for a server of photographs and sends them over gRPC and REST."""

import base64
import contextlib
import json
import urllib.error
import urllib.request

import grpc
import numpy as np
from google.protobuf import text_format

from export.protocol import messages, tensors
from fakes.images import colour_jpeg
from fakes.serving import COLOURS

RED, GREEN, BLUE = (colour_jpeg(colour) for colour in COLOURS)
NO_IMAGE = b"no image"


@contextlib.contextmanager
def open_channel(server):
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    with grpc.insecure_channel(server.grpc, options) as channel:
        yield channel


def call_grpc(server, method: str, request, timeout: float = 30):
    """Returns the reply that the generated stubs give.

    Raises:
      grpc.RpcError: the server refuses the request.
    """
    stubs = messages.prediction_service_pb2_grpc.PredictionServiceStub
    if method in ("GetModelStatus", "HandleReloadConfigRequest"):
        stubs = messages.model_service_pb2_grpc.ModelServiceStub
    with open_channel(server) as channel:
        return getattr(stubs(channel), method)(request, timeout=timeout)


def make_spec(text: str = "") -> messages.model_pb2.ModelSpec:
    return text_format.Parse(
        text,
        messages.model_pb2.ModelSpec(
            name="" if text.startswith("name:") else messages.MODEL_NAME
        ),
    )


def make_predict_request(
    images=(RED,), spec: str = "", key: str = "image_bytes", output_filter=()
):
    request = messages.predict_pb2.PredictRequest(
        model_spec=make_spec(spec), output_filter=output_filter
    )
    array = images
    if not isinstance(images, np.ndarray):
        array = np.array(list(images), object)
    request.inputs[key].CopyFrom(tensors.to_proto(array))
    return request


def make_classify_request(images=(RED,), spec: str = "signature_name: 'classify'"):
    request = messages.classification_pb2.ClassificationRequest(
        model_spec=make_spec(spec)
    )
    for image in images:
        example = request.input.example_list.examples.add()
        feature = example.features.feature["image/encoded"]
        feature.bytes_list.value.append(image)
    return request


def list_labels(response) -> list[str]:
    return [label.decode() for label in response.outputs["label"].string_val]


def call_rest(server, verb: str, path: str, body=None) -> tuple[int, dict]:
    """Returns the status and the JSON; the path of the model goes before `path`."""
    prefix = "" if path.startswith("http") else f"http://{server.rest}"
    if not path.startswith(("/v1", "/V1", "/other", "http")):
        prefix += f"/v1/models/{messages.MODEL_NAME}"
    data = (
        body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    )
    request = urllib.request.Request(prefix + path, data, method=verb)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            text, status = response.read(), response.status
    except urllib.error.HTTPError as error:
        with error:
            text, status = error.read(), error.code
    return status, json.loads(text)


def to_base64(image: bytes) -> dict:
    return {"b64": base64.b64encode(image).decode()}


def make_metadata_request(spec: str = "", fields=("signature_def",)):
    return messages.get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=make_spec(spec), metadata_field=fields
    )


def make_status_request(spec: str = ""):
    return messages.get_model_status_pb2.GetModelStatusRequest(
        model_spec=make_spec(spec)
    )


def is_alive(server) -> bool:
    """Tells whether the server answers with the label of the first model."""
    return list_labels(call_grpc(server, "Predict", make_predict_request())) == ["red"]
