"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

import numpy as np
from google.protobuf.message import Message

from export.local_server.versions import Version, Versions
from export.protocol import messages, tensors

# What a request is answered; a ValueError is an INVALID_ARGUMENT.


def predict(versions: Versions, request: Message) -> Message:
    """PredictRequest -> PredictResponse; any signature will do."""
    response = messages.predict_pb2.PredictResponse()
    with versions.use(request.model_spec) as version:
        response.model_spec.CopyFrom(_answering(request.model_spec, version))
        inputs = {key: tensors.to_array(each) for key, each in request.inputs.items()}
        outputs = version.session.run(response.model_spec.signature_name, inputs)
    wanted = list(request.output_filter) or list(outputs)
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(outputs):
        raise ValueError(
            f"output_filter names outputs, each once, of {', '.join(sorted(outputs))}. "
            f"Received: {', '.join(request.output_filter)}"
        )
    for key in wanted:
        array, tensor = outputs[key], response.outputs[key]
        # Into the fields that clients read, such as float_val; not tensor_content.
        tensor.dtype, field = tensors.DTYPES[array.dtype.name]
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        getattr(tensor, field)[:] = array.ravel().tolist()
    return response


def _answering(spec: Message, version: Version) -> Message:
    name = spec.signature_name or "serving_default"
    answering = messages.model_pb2.ModelSpec(name=spec.name, signature_name=name)
    answering.version.value = version.number
    return answering


def classify(versions: Versions, request: Message) -> Message:
    """ClassificationRequest -> ClassificationResponse, by a signature made for it."""
    examples, more = request.input.example_list, request.input.example_list_with_context
    encoded = [each.SerializeToString() for each in examples.examples]
    # Two messages one after the other are one message, merged.
    context = more.context.SerializeToString()
    encoded += [context + each.SerializeToString() for each in more.examples]
    if not encoded:
        raise ValueError("Input is empty.")
    response = messages.classification_pb2.ClassificationResponse()
    with versions.use(request.model_spec) as version:
        response.model_spec.CopyFrom(_answering(request.model_spec, version))
        name = response.model_spec.signature_name
        declared = version.session.signatures.get(name)
        if declared is None or declared.method_name != messages.CLASSIFY_METHOD:
            raise ValueError(
                "Classify needs a signature whose method is "
                f"{messages.CLASSIFY_METHOD}. Received: {name}"
            )
        outputs = version.session.run(name, {"inputs": np.array(encoded, object)})
    for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
        classes = response.result.classifications.add().classes
        for label, score in zip(labels, scores, strict=True):
            classes.add(label=label.decode(), score=score)
    return response


def get_metadata(versions: Versions, request: Message) -> Message:
    """GetModelMetadataRequest -> its response, with the field signature_def."""
    if set(request.metadata_field) != {"signature_def"}:
        raise ValueError(
            f"metadata_field is signature_def. Received: {[*request.metadata_field]}"
        )
    response = messages.get_model_metadata_pb2.GetModelMetadataResponse()
    found = messages.get_model_metadata_pb2.SignatureDefMap()
    with versions.use(request.model_spec) as version:
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        for name, declared in version.session.signatures.items():
            found.signature_def[name].CopyFrom(declared)
    response.metadata["signature_def"].Pack(found)
    return response


def get_status(versions: Versions, request: Message) -> Message:
    """GetModelStatusRequest -> its response."""
    states = versions.states(request.model_spec)
    return messages.get_model_status_pb2.GetModelStatusResponse(
        model_version_status=states
    )
