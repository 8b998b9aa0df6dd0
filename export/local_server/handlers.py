"""Answers the requests of gRPC with the versions that are loaded.

A ValueError becomes the status INVALID_ARGUMENT; see servers.py.
"""

from collections.abc import Mapping

import numpy as np

from export.local_server.limits import check_pixels
from export.local_server.versions import Version, Versions
from export.protocol import messages, tensors
from export.protocol.messages import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)
from export.protocol.status import Code, StatusError


def predict(
    versions: Versions, request: predict_pb2.PredictRequest
) -> predict_pb2.PredictResponse:
    """Answers Predict: runs any signature of a version.

    Raises:
      StatusError: there is no such version, the images have too many pixels, or the
        model refuses the inputs.
      ValueError: an input is malformed, or output_filter names no output.
    """
    response = predict_pb2.PredictResponse()
    with versions.use(request.model_spec) as version:
        response.model_spec.CopyFrom(_make_answer_spec(request.model_spec, version))
        inputs = {
            key: tensors.to_array(tensor) for key, tensor in request.inputs.items()
        }
        outputs = run(version, response.model_spec.signature_name, inputs)
    keys = list(request.output_filter) or list(outputs)
    if len(set(keys)) < len(keys) or not set(keys) <= set(outputs):
        raise ValueError(
            "output_filter must name outputs, each once, of "
            f"{', '.join(sorted(outputs))}. Received: "
            f"{', '.join(request.output_filter)}"
        )
    for key in keys:
        array, tensor = outputs[key], response.outputs[key]
        # Clients read the typed fields, such as float_val, and not tensor_content.
        tensor.dtype, field = tensors.DTYPES[array.dtype.name]
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        getattr(tensor, field)[:] = array.ravel().tolist()
    return response


def run(
    version: Version, signature_name: str, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Runs a signature of a version.

    Args:
      inputs: name -> array; its shape and dtype are those of the signature.

    Returns:
      Name of each output -> array.

    Raises:
      StatusError: see Session.run and check_pixels.
    """
    check_pixels(inputs)
    return version.session.run(signature_name, inputs)


def _make_answer_spec(
    spec: model_pb2.ModelSpec, version: Version
) -> model_pb2.ModelSpec:
    """Returns the model, version and signature that answer a request."""
    answer_spec = model_pb2.ModelSpec(
        name=spec.name, signature_name=spec.signature_name or "serving_default"
    )
    answer_spec.version.value = version.number
    return answer_spec


def classify(
    versions: Versions, request: classification_pb2.ClassificationRequest
) -> classification_pb2.ClassificationResponse:
    """Answers Classify: runs a signature that has this method.

    Raises:
      StatusError: see predict.
      ValueError: the signature is not for Classify, or there is no example.
    """
    response = classification_pb2.ClassificationResponse()
    with versions.use(request.model_spec) as version:
        response.model_spec.CopyFrom(_make_answer_spec(request.model_spec, version))
        name = response.model_spec.signature_name
        _check_method(version, name, messages.CLASSIFY_METHOD)
        encoded = _encode_examples(request)
        if not encoded:
            raise ValueError("Input is empty.")
        outputs = run(version, name, {"inputs": np.array(encoded, object)})
    for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
        classes = response.result.classifications.add().classes
        for label, score in zip(labels, scores, strict=True):
            classes.add(label=label.decode(), score=score)
    return response


def refuse_to_regress(
    versions: Versions, request: classification_pb2.ClassificationRequest
) -> None:
    """Refuses Regress as TensorFlow Serving does; no export has a signature for it.

    request: may also be a RegressionRequest, which has the same model_spec.

    Raises:
      StatusError: there is no such version, or the signature is for Regress.
      ValueError: the signature is not for Regress.
    """
    with versions.use(request.model_spec) as version:
        name = request.model_spec.signature_name or "serving_default"
        _check_method(version, name, messages.REGRESS_METHOD)
    raise StatusError(Code.UNIMPLEMENTED, "The local server does not regress.")


def _check_method(version: Version, signature_name: str, method_name: str) -> None:
    signature = version.session.signatures.get(signature_name)
    if signature is None:
        raise ValueError(f"No signature was found with the name: {signature_name}")
    if signature.method_name != method_name:
        raise ValueError(
            f"The signature {signature_name} must have the method {method_name}. "
            f"Received: {signature.method_name}"
        )


def _encode_examples(request: classification_pb2.ClassificationRequest) -> list[bytes]:
    """Returns the serialized tf.train.Examples of a request."""
    encoded = [
        example.SerializeToString() for example in request.input.example_list.examples
    ]
    with_context = request.input.example_list_with_context
    # Two serialized messages, one after the other, are one merged message.
    context = with_context.context.SerializeToString()
    encoded += [
        context + example.SerializeToString() for example in with_context.examples
    ]
    return encoded


def get_metadata(
    versions: Versions, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers GetModelMetadata: returns the signatures of a version.

    Raises:
      StatusError: there is no such version.
      ValueError: metadata_field is not signature_def.
    """
    if set(request.metadata_field) != {"signature_def"}:
        raise ValueError(
            "metadata_field must be signature_def. Received: "
            f"{[*request.metadata_field]}"
        )
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    with versions.use(request.model_spec) as version:
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        for name, signature in version.session.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
    response.metadata["signature_def"].Pack(signatures)
    return response


def get_status(
    versions: Versions, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers GetModelStatus: returns the state of one version, or of all.

    Raises:
      StatusError: there is no such model or version.
    """
    states = versions.list_states(request.model_spec)
    return get_model_status_pb2.GetModelStatusResponse(model_version_status=states)
