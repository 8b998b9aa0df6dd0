"""What each request is answered, whichever protocol brought it.

The codes are TensorFlow Serving's. Every function takes the versions that are served
and raises StatusError for what is wrong with a request.
"""

import json
import re
import urllib.parse

import numpy as np
from google.protobuf import message

from export import protos, rest, versions
from export.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    meta_graph_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
)
from export.session import CLASSIFY_METHOD, StatusError
from export.versions import FAILED_PRECONDITION, INVALID_ARGUMENT

_DEFAULT_SIGNATURE = "serving_default"
_REGRESS_METHOD = "tensorflow/serving/regress"
_UNIMPLEMENTED = 12

_MODEL_PATH = r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_RUN_PATH = re.compile(f"{_MODEL_PATH}:(classify|regress|predict)")
_LOOK_PATH = re.compile(f"{_MODEL_PATH}(/metadata)?")
_MAX_VERSION = (1 << 63) - 1


def predict(served: versions.Versions, request: predict_pb2.PredictRequest):
    """PredictRequest -> PredictResponse; any signature will do."""
    _require_spec(request)
    name = request.model_spec.signature_name or _DEFAULT_SIGNATURE
    with served.use(request.model_spec) as version:
        declared = version.session.signatures.get(name)
        if declared is None:
            raise StatusError(
                FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        inputs = {key: _to_array(key, each) for key, each in request.inputs.items()}
        wanted = _filter(request.output_filter, declared)
        outputs = version.session.run(name, inputs)
        response = predict_pb2.PredictResponse(
            model_spec=_answering_spec(request.model_spec, version)
        )
    for key in wanted:
        _fill_tensor(response.outputs[key], outputs[key])
    return response


def _require_spec(request: message.Message) -> None:
    if not request.HasField("model_spec"):
        raise StatusError(INVALID_ARGUMENT, "Missing ModelSpec")


def _answering_spec(
    spec: model_pb2.ModelSpec, version: versions.Version
) -> model_pb2.ModelSpec:
    answering = model_pb2.ModelSpec(
        name=spec.name, signature_name=spec.signature_name or _DEFAULT_SIGNATURE
    )
    answering.version.value = version.number
    return answering


def _to_array(name: str, tensor: protos.tensor_pb2.TensorProto) -> np.ndarray:
    try:
        return protos.to_array(tensor)
    except ValueError as error:
        raise StatusError(
            INVALID_ARGUMENT, f"tensor parsing error: {name}: {error}"
        ) from error


def _filter(wanted: list[str], declared: meta_graph_pb2.SignatureDef) -> list[str]:
    for index, name in enumerate(wanted):
        if name not in declared.outputs:
            raise StatusError(
                INVALID_ARGUMENT,
                f"output_filter names outputs of the signature, one of "
                f"{', '.join(sorted(declared.outputs))}. Received: {name}",
            )
        if name in wanted[:index]:
            raise StatusError(
                INVALID_ARGUMENT, f"output_filter names an output twice: {name}"
            )
    return list(wanted or declared.outputs)


def _fill_tensor(tensor: protos.tensor_pb2.TensorProto, array: np.ndarray) -> None:
    """Into the fields that clients read, such as float_val; not into tensor_content."""
    tensor.dtype, field = protos.DTYPES[array.dtype.name]
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    getattr(tensor, field).extend(array.ravel().tolist())


def classify(
    served: versions.Versions, request: classification_pb2.ClassificationRequest
):
    """ClassificationRequest -> ClassificationResponse, by a signature for it."""
    _require_spec(request)
    with served.use(request.model_spec) as version:
        name = _require_method(version, request.model_spec, CLASSIFY_METHOD)
        examples = _serialized_examples(request.input)
        outputs = version.session.run(name, {"inputs": examples})
        response = classification_pb2.ClassificationResponse(
            model_spec=_answering_spec(request.model_spec, version)
        )
    if set(outputs) - {"classes", "scores"} or not outputs:
        raise StatusError(
            INVALID_ARGUMENT,
            "Classify gives classes, scores or both. Received: a signature with "
            f"{', '.join(sorted(outputs))}",
        )
    some = next(iter(outputs.values()))
    labels = outputs.get("classes", np.full(some.shape, b"", object))
    scores = outputs.get("scores", np.zeros(some.shape, np.float32))
    for row_of_labels, row_of_scores in zip(labels, scores, strict=True):
        classes = response.result.classifications.add().classes
        for label, score in zip(row_of_labels, row_of_scores, strict=True):
            classes.add(label=label.decode("utf-8", "replace"), score=score)
    return response


def regress(served: versions.Versions, request: message.Message):
    """Only ever an error: a classifier has no signature for it."""
    _require_spec(request)
    with served.use(request.model_spec) as version:
        _require_method(version, request.model_spec, _REGRESS_METHOD)
    raise StatusError(_UNIMPLEMENTED, "This server does not regress.")


def multi_inference(served: versions.Versions, request: message.Message):
    """Only ever an error."""
    raise StatusError(_UNIMPLEMENTED, "This server has no MultiInference.")


def _require_method(
    version: versions.Version, spec: model_pb2.ModelSpec, method: str
) -> str:
    name = spec.signature_name or _DEFAULT_SIGNATURE
    if name not in version.session.signatures:
        raise StatusError(
            INVALID_ARGUMENT, f"No signature was found with the name: {name}"
        )
    found = version.session.signatures[name].method_name
    if found != method:
        raise StatusError(
            INVALID_ARGUMENT,
            f"The signature's method is {method}. Received: {name}, whose method is "
            f"{found}",
        )
    return name


def _serialized_examples(given: message.Message) -> np.ndarray:
    with_context = given.example_list_with_context
    # Two messages one after the other are one message, merged.
    context = with_context.context.SerializeToString()
    examples = [each.SerializeToString() for each in given.example_list.examples]
    examples += [context + each.SerializeToString() for each in with_context.examples]
    if not examples:
        raise StatusError(INVALID_ARGUMENT, "Input is empty.")
    return np.array(examples, object)


def metadata(
    served: versions.Versions, request: get_model_metadata_pb2.GetModelMetadataRequest
):
    """GetModelMetadataRequest -> its response, with the field signature_def."""
    _require_spec(request)
    if set(request.metadata_field) != {"signature_def"}:
        raise StatusError(
            INVALID_ARGUMENT,
            "metadata_field is signature_def. Received: "
            f"{', '.join(request.metadata_field) or 'none'}",
        )
    with served.use(request.model_spec) as version:
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, declared in version.session.signatures.items():
            found.signature_def[name].CopyFrom(declared)
    response.metadata["signature_def"].Pack(found)
    return response


def status(
    served: versions.Versions, request: get_model_status_pb2.GetModelStatusRequest
):
    """GetModelStatusRequest -> its response."""
    _require_spec(request)
    return get_model_status_pb2.GetModelStatusResponse(
        model_version_status=served.statuses(request.model_spec)
    )


def reload(
    served: versions.Versions, request: model_management_pb2.ReloadConfigRequest
):
    """ReloadConfigRequest -> its response."""
    served.reload(request.config)
    return model_management_pb2.ReloadConfigResponse()


def rest_answer(served: versions.Versions, verb: str, path: str, body: bytes) -> str:
    """A REST request -> JSON."""
    match = (_RUN_PATH if verb == "POST" else _LOOK_PATH).fullmatch(path)
    if verb == "GET" and path.lower() == "/v1/models":
        raise StatusError(INVALID_ARGUMENT, "Missing model name in request.")
    if verb not in ("GET", "POST") or not match:
        raise StatusError(INVALID_ARGUMENT, f"Malformed request: {verb} {path}")
    name, number, label, what = match.groups()
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
    if label:
        spec.version_label = urllib.parse.unquote(label)
    elif number and int(number) > _MAX_VERSION:
        raise StatusError(
            INVALID_ARGUMENT, f"A version is below 2^63. Received: {number}"
        )
    elif number:
        spec.version.value = int(number)
    if verb == "GET":
        return json.dumps(_look(served, spec, wants_metadata=bool(what)), indent=1)
    try:
        payload = rest.parse(body)
        spec.signature_name = payload.get("signature_name", "")
        if what.lower() == "predict":
            return json.dumps(_predict_by_rest(served, spec, payload))
        request = rest.to_classification_request(payload)
    except ValueError as error:
        raise StatusError(INVALID_ARGUMENT, str(error)) from error
    request.model_spec.CopyFrom(spec)
    answer = classify if what.lower() == "classify" else regress
    return json.dumps(rest.to_classify_reply(answer(served, request).result))


def _look(
    served: versions.Versions, spec: model_pb2.ModelSpec, *, wants_metadata: bool
) -> dict:
    if not wants_metadata:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return protos.to_dict(status(served, request))
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec, metadata_field=["signature_def"]
    )
    found = metadata(served, request)
    return protos.metadata_to_dict(found)


def _predict_by_rest(
    served: versions.Versions, spec: model_pb2.ModelSpec, payload: dict
) -> dict:
    name = spec.signature_name or _DEFAULT_SIGNATURE
    with served.use(spec) as version:
        declared = version.session.signatures.get(name)
        if declared is None:
            raise StatusError(
                INVALID_ARGUMENT, f'Serving signature name: "{name}" not found.'
            )
        inputs = rest.to_inputs(payload, declared.inputs)
        outputs = version.session.run(name, inputs)
    return rest.to_reply(payload, outputs)
