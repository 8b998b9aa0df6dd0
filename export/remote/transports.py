"""Sends one request to a server over gRPC or REST.

Both protocols have the same three functions: predict, get the status of the model, get
its metadata. Each takes the seconds until its deadline, returns what the REST API of
TensorFlow Serving returns, and raises a StatusError with a code of export.protocol.
"""

import base64
import http.client
import json
import socket
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from export.protocol import messages, tensors
from export.protocol.messages import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from export.protocol.status import Code, StatusError

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Ignore HTTP proxy variables: the server is usually on the local network.
    ("grpc.enable_http_proxy", 0),
    # Reconnect soon: classify.py decides when to retry. By default gRPC waits 1 to 120
    # seconds before it connects again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

# The code for an HTTP status; INTERNAL for every other one. It is not the inverse of
# HTTP_STATUS_OF_CODE: three codes become 400, and a proxy sends 413 by itself.
_CODE_OF_HTTP_STATUS = {
    400: Code.INVALID_ARGUMENT,
    404: Code.NOT_FOUND,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


def predict_by_grpc(
    channel: grpc.Channel,
    images: list[bytes],
    seconds: float,
    *,
    signature: str = "",
) -> dict[str, list]:
    """Sends images to a signature.

    images: N encoded images.
    signature: takes image_bytes; "" is serving_default.

    Returns:
      Each output of the signature, name -> list of N values.

    Raises:
      StatusError: the server does not answer in time, or answers with an error.
    """
    request = predict_pb2.PredictRequest(model_spec=_model_spec())
    request.model_spec.signature_name = signature
    request.inputs["image_bytes"].CopyFrom(tensors.to_proto(np.array(images, object)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = _grpc_call(stub.Predict, request, seconds)
    arrays = {key: tensors.to_array(proto) for key, proto in response.outputs.items()}
    for key in arrays.keys() & {"label", "background"}:
        texts = arrays[key].ravel()
        arrays[key] = np.array([text.decode("utf-8", "replace") for text in texts])
    if "probabilities" in arrays:
        # The conversion to text gives the shortest decimal of a float32: 0.2, as REST
        # returns it. A direct conversion to float would give 0.20000000298.
        arrays["probabilities"] = arrays["probabilities"].astype(str).astype(float)
    return {key: array.tolist() for key, array in arrays.items()}


def predict_arrays_by_grpc(
    channel: grpc.Channel,
    images: list[bytes],
    seconds: float,
    *,
    signature: str,
    version: int,
) -> dict[str, np.ndarray]:
    """Sends images to a signature of one version.

    Args:
      images: N encoded images.
      seconds: until the deadline.
      signature: "serving_default" or "features".
      version: number of the version that must answer.

    Returns:
      Each output of the signature, name -> array [N, ...], with strings as bytes.

    Raises:
      StatusError: see predict_by_grpc.
    """
    spec = _model_spec()
    spec.signature_name = signature
    spec.version.value = version
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.inputs["image_bytes"].CopyFrom(tensors.to_proto(np.array(images, object)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = _grpc_call(stub.Predict, request, seconds)
    return {name: tensors.to_array(proto) for name, proto in response.outputs.items()}


def get_status_by_grpc(channel: grpc.Channel, seconds: float) -> dict:
    """Returns the status of each version of the model.

    Raises:
      StatusError: see predict_by_grpc.
    """
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=_model_spec())
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    return messages.to_dict(_grpc_call(stub.GetModelStatus, request, seconds))


def get_metadata_by_grpc(channel: grpc.Channel, seconds: float) -> dict:
    """Returns the version and the signatures of the model.

    Raises:
      StatusError: see predict_by_grpc.
    """
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=_model_spec(), metadata_field=["signature_def"]
    )
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = _grpc_call(stub.GetModelMetadata, request, seconds)
    return messages.metadata_to_dict(response)


def predict_by_rest(
    address: str, images: list[bytes], seconds: float, *, signature: str = ""
) -> dict[str, list]:
    """Sends images to a signature; see predict_by_grpc.

    address: HOST:PORT of the server.

    Returns:
      As predict_by_grpc, but an empty dictionary if the reply has no named outputs.
    """
    encoded = [{"b64": base64.b64encode(image).decode()} for image in images]
    named = {"signature_name": signature} if signature else {}
    body = json.dumps({**named, "inputs": encoded})
    reply = _rest_call(address, "POST", ":predict", body, seconds)
    outputs = reply.get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def get_status_by_rest(address: str, seconds: float) -> dict:
    """Returns the status of each version of the model; see get_status_by_grpc."""
    return _rest_call(address, "GET", "", None, seconds)


def get_metadata_by_rest(address: str, seconds: float) -> dict:
    """Returns the version and signatures of the model; see get_metadata_by_grpc."""
    return _rest_call(address, "GET", "/metadata", None, seconds)


def _model_spec() -> model_pb2.ModelSpec:
    return model_pb2.ModelSpec(name=messages.MODEL_NAME)


def _grpc_call(method: Callable[..., Any], request: Any, seconds: float) -> Any:
    """Calls a method of a stub; the generated stubs have no types."""
    try:
        return method(request, timeout=seconds)
    except grpc.RpcError as error:
        raise StatusError(error.code().value[0], error.details()) from error


def _rest_call(
    address: str, verb: str, path: str, body: str | None, seconds: float
) -> dict:
    """Sends one request and returns the JSON object of the reply.

    It uses http.client and not requests: this is as short, it ignores proxy variables,
    and its errors are short texts for the user, which requests wraps in its own.
    """
    connection = http.client.HTTPConnection(address, timeout=seconds)
    try:
        connection.request(verb, f"/v1/models/{messages.MODEL_NAME}{path}", body)
        response = connection.getresponse()
        text = response.read()
        reply = json.loads(text)
    except TimeoutError as error:
        raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") from error
    except (ConnectionError, http.client.HTTPException, socket.gaierror) as error:
        # A gRPC port answers with binary data, which must not reach the terminal.
        line = str(error) if str(error).isprintable() else ""
        raise StatusError(Code.UNAVAILABLE, line or type(error).__name__) from error
    except ValueError:
        reply = None
    finally:
        connection.close()
    code = _CODE_OF_HTTP_STATUS.get(response.status, Code.INTERNAL)
    if not isinstance(reply, dict):
        raise StatusError(
            code, f"status {response.status} and no JSON object: {text[:80]!r}"
        )
    if response.status != 200:
        raise StatusError(code, f"{reply.get('error', reply)}")
    return reply
