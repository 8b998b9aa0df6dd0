"""`python -m export.client IMAGES...`: asks a server what is on photographs.

The server is TensorFlow Serving or export.serve, over gRPC or REST. Of the model it
needs the signature serving_default as export.main writes it.
"""

import base64
import http.client
import json
import socket

import grpc
import numpy as np

from export.protocol import messages, tensors
from export.protocol.messages import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)
from export.protocol.status import StatusError

UNAVAILABLE, INTERNAL = 14, 13
_STATUS_OF_HTTP = {400: 3, 404: 5, 413: 8, 429: 8, 501: 12, 503: UNAVAILABLE, 504: 4}

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A proxy for web pages is none for a server next door.
    ("grpc.enable_http_proxy", 0),
    # How often is tried again is decided here.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


# The protocols: functions of (server, what is asked, seconds it may take), which raise
# StatusError.


def _spec() -> model_pb2.ModelSpec:
    return model_pb2.ModelSpec(name=messages.MODEL_NAME)


def _grpc_call(stub: type, channel: grpc.Channel, method: str, request, seconds: float):
    try:
        return getattr(stub(channel), method)(request, timeout=seconds)
    except grpc.RpcError as error:
        raise StatusError(error.code().value[0], error.details()) from error


def predict_by_grpc(
    channel: grpc.Channel, images: list[bytes], seconds: float
) -> dict[str, list]:
    """Images -> each output of serving_default, one element an image."""
    request = predict_pb2.PredictRequest(model_spec=_spec())
    request.inputs["image_bytes"].CopyFrom(tensors.to_proto(np.array(images, object)))
    stub = messages.prediction_service_pb2_grpc.PredictionServiceStub
    response = _grpc_call(stub, channel, "Predict", request, seconds)
    arrays = {key: tensors.to_array(each) for key, each in response.outputs.items()}
    if "label" in arrays:
        labels = arrays["label"].ravel()
        arrays["label"] = np.array([each.decode("utf-8", "replace") for each in labels])
    if "probabilities" in arrays:
        # By way of text, so that 0.2 stays 0.2 as it does over REST.
        arrays["probabilities"] = arrays["probabilities"].astype(str).astype(float)
    return {key: array.tolist() for key, array in arrays.items()}


def look_by_grpc(channel: grpc.Channel, what: str, seconds: float) -> dict:
    """The server's status or metadata, as REST would give them."""
    if what == "status":
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec())
        stub = messages.model_service_pb2_grpc.ModelServiceStub
        return messages.to_dict(
            _grpc_call(stub, channel, "GetModelStatus", request, seconds)
        )
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=_spec(), metadata_field=["signature_def"]
    )
    stub = messages.prediction_service_pb2_grpc.PredictionServiceStub
    found = _grpc_call(stub, channel, "GetModelMetadata", request, seconds)
    return messages.metadata_to_dict(found)


def _rest_call(server: str, verb: str, path: str, body: str | None, seconds: float):
    connection = http.client.HTTPConnection(server, timeout=seconds)
    try:
        connection.request(verb, f"/v1/models/{messages.MODEL_NAME}{path}", body)
        response = connection.getresponse()
        text = response.read()
        reply = json.loads(text)
    except TimeoutError as error:
        raise StatusError(4, "Deadline Exceeded") from error
    except (ConnectionError, http.client.HTTPException, socket.gaierror) as error:
        # What another protocol says is not for a terminal.
        line = str(error) if str(error).isprintable() else ""
        raise StatusError(UNAVAILABLE, line or type(error).__name__) from error
    except ValueError:
        reply = None
    finally:
        connection.close()
    if not isinstance(reply, dict):
        raise StatusError(
            _STATUS_OF_HTTP.get(response.status, INTERNAL),
            f"status {response.status} and no JSON object: {text[:80]!r}",
        )
    if response.status != 200:
        code = _STATUS_OF_HTTP.get(response.status, INTERNAL)
        raise StatusError(code, f"{reply.get('error', reply)}")
    return reply


def predict_by_rest(
    server: str, images: list[bytes], seconds: float
) -> dict[str, list]:
    """Images -> each output of serving_default, one element an image."""
    encoded = [{"b64": base64.b64encode(image).decode()} for image in images]
    body = json.dumps({"inputs": encoded})
    outputs = _rest_call(server, "POST", ":predict", body, seconds).get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def look_by_rest(server: str, what: str, seconds: float) -> dict:
    """The server's status or metadata."""
    path = "/metadata" if what == "metadata" else ""
    return _rest_call(server, "GET", path, None, seconds)
