"""Answers REST requests: reads and writes the JSON that TensorFlow Serving defines."""

import binascii
import contextlib
import json
from typing import Any, TypeGuard

import numpy as np

from export.local_server import handlers
from export.local_server.log import to_one_line
from export.local_server.rest_bodies import decompress, parse_object
from export.local_server.rest_paths import read_target
from export.local_server.versions import Versions
from export.protocol import messages, tensors


def answer_rest(
    versions: Versions, method: str, path: str, encoding: str, body: bytes
) -> str:
    """Answers one REST request with JSON text.

    Args:
      versions: the versions that are served.
      method: HTTP method of the request.
      path: as the client sent it, with its escapes.
      encoding: Content-Encoding of the body, "" for none.
      body: JSON for a POST; ignored for a GET.

    Raises:
      StatusError: the request is refused, with the code of TensorFlow Serving.
      ValueError: the body does not describe a request.
    """
    action, spec = read_target(method, path)
    if action == "status":
        request = messages.get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return json.dumps(messages.to_dict(handlers.get_status(versions, request)))
    if action == "metadata":
        request = messages.get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        return json.dumps(
            messages.metadata_to_dict(handlers.get_metadata(versions, request))
        )
    payload = parse_object(decompress(body, encoding))
    signature_name = payload.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise ValueError(
            "signature_name must be a string. Received: "
            f"{to_one_line(json.dumps(signature_name))}"
        )
    spec.signature_name = signature_name
    if action == "predict":
        return json.dumps(_predict_json(versions, spec, payload))
    request = _read_examples(spec, payload)
    if action == "regress":
        handlers.refuse_to_regress(versions, request)
    results = []
    for ranking in handlers.classify(versions, request).result.classifications:
        scores = np.array([scored.score for scored in ranking.classes], np.float32)
        labels = [scored.label for scored in ranking.classes]
        results.append(list(zip(labels, array_to_json(scores), strict=True)))
    return json.dumps({"results": results})


def _predict_json(
    versions: Versions, spec: messages.model_pb2.ModelSpec, payload: dict[str, Any]
) -> dict[str, Any]:
    """Answers :predict, by rows (instances) or by columns (inputs)."""
    with versions.use(spec) as version:
        name = spec.signature_name or "serving_default"
        if name not in version.session.signatures:
            raise ValueError(f'Serving signature name: "{name}" not found.')
        if ("instances" in payload) == ("inputs" in payload):
            raise ValueError(
                "A body has one of instances and inputs. Received: "
                f"{', '.join(payload) or 'an empty object'}"
            )
        by_row = "instances" in payload
        values = payload["instances" if by_row else "inputs"]
        # Every signature of an export has one input, which may go without its name.
        ((key, info),) = version.session.signatures[name].inputs.items()
        if not by_row:
            values = _unname(values, key)
        elif not isinstance(values, list) or not values:
            raise ValueError(f"instances is a list. Received: {to_one_line(values)}")
        elif {frozenset(row) if _is_named(row) else key for row in values} not in (
            {key},
            {frozenset([key])},
        ):
            raise ValueError(f"Either all rows name the input {key}, or none does.")
        else:
            values = [_unname(row, key) for row in values]
        array = json_to_array(values, tensors.NUMPY_OF[info.dtype])
        outputs = handlers.run(version, name, {key: array})
    columns = {key: array_to_json(array) for key, array in outputs.items()}
    if not by_row:
        return {"outputs": columns}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _is_named(value: object) -> TypeGuard[dict[str, object]]:
    """Tells whether a value is an object {name: value}, and not {"b64": TEXT}."""
    return isinstance(value, dict) and not _is_base64(value)


def _unname(value: object, name: str) -> object:
    """Returns the value of an object {name: value}; any other value as it is.

    Raises:
      ValueError: the object has another name.
    """
    if _is_named(value):
        if name not in value:
            raise ValueError(f"The input is {name}. Received: {', '.join(value)}")
        return value[name]
    return value


# Kind of a NumPy dtype -> types of the JSON values that it can hold.
_TYPES: dict[str, list[type]] = {
    "O": [bytes],
    "u": [int],
    "i": [int],
    "f": [int, float],
    "b": [bool],
}


def json_to_array(values: object, dtype: np.dtype) -> np.ndarray:
    """Makes an array of the nested lists of a body.

    Args:
      values: a value, or lists of any depth.
      dtype: that of the input of the signature; object for strings.

    Raises:
      ValueError: a value has another type, or lists have different lengths.
    """
    elements = _to_bytes(values) if dtype.kind == "O" else values
    array: np.ndarray = np.array(elements, object)
    # If lists have different lengths, NumPy keeps them as elements of the array.
    if all(type(element) in _TYPES[dtype.kind] for element in array.ravel()):
        too_large = OverflowError, FloatingPointError
        with contextlib.suppress(*too_large), np.errstate(over="raise"):
            return array.astype(dtype)
    raise ValueError(
        f"Expected equal lists of {'strings' if dtype.kind == 'O' else dtype}. "
        f"Received: {to_one_line(values)}"
    )


def _is_base64(value: object) -> TypeGuard[dict[str, str]]:
    """Tells whether a value is {"b64": TEXT}."""
    if not isinstance(value, dict) or value.keys() != {"b64"}:
        return False
    return isinstance(value["b64"], str)


def _to_bytes(value: object) -> object:
    """Replaces strings and {"b64": TEXT} by their bytes, in lists of any depth.

    Raises:
      ValueError: a value is something else, or TEXT is not base64.
    """
    if isinstance(value, list):
        return [_to_bytes(element) for element in value]
    if isinstance(value, str):
        return value.encode()
    if _is_base64(value):
        # As in TensorFlow Serving, the padding may be missing. base64.b64decode takes
        # twice the time, in which no other request runs Python code.
        text = "".join(value["b64"].split()).rstrip("=")
        try:
            return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
        except ValueError as error:
            raise ValueError(f"Not base64. Received: {to_one_line(value)}") from error
    raise ValueError(f"Expected a string. Received: {to_one_line(value)}")


def array_to_json(array: np.ndarray) -> list[Any]:
    """Makes nested lists of an array; json_to_array makes an array of them again.

    Strings become text; float32 becomes the shortest number that reads as the same.
    """
    if array.dtype == object:
        texts = [value.decode(errors="replace") for value in array.ravel()]
        array = np.array(texts, object).reshape(array.shape)
    elif array.dtype == np.float32:
        # 0.2, not 0.20000000298.
        array = array.astype(str).astype(np.float64)
    return array.tolist()


def _read_examples(
    spec: messages.model_pb2.ModelSpec, payload: dict[str, Any]
) -> messages.classification_pb2.ClassificationRequest:
    """Makes the request of :classify and :regress.

    Raises:
      ValueError: the body has no examples, or one of them is not an example.
    """
    request = messages.classification_pb2.ClassificationRequest(model_spec=spec)
    context, examples = payload.get("context", {}), payload.get("examples")
    if not isinstance(examples, list) or not examples:
        raise ValueError(
            "examples must be a list with an example. Received: "
            f"{to_one_line(examples)}"
        )
    for example in (context, *examples):
        if not isinstance(example, dict):
            raise ValueError(
                f"An example must be an object. Received: {to_one_line(example)}"
            )
    for example in examples:
        features = request.input.example_list.examples.add().features
        for name, content in (context | example).items():
            values = content if isinstance(content, list) else [content]
            _fill_feature(features.feature[name], values)
    return request


def _fill_feature(feature: Any, values: list[Any]) -> None:
    """Sets the values of a tensorflow.Feature; without values it stays empty."""
    if any(isinstance(value, list) for value in values):
        raise ValueError(f"A feature must be one list. Received: {to_one_line(values)}")
    if not values:
        return
    if all(isinstance(value, int) for value in values):
        feature.int64_list.value[:] = map(int, values)  # Booleans are ints, too.
    elif all(isinstance(value, float) for value in values):
        numbers = json_to_array(values, np.dtype(np.float32))
        feature.float_list.value[:] = numbers.tolist()
    else:
        feature.bytes_list.value[:] = _to_bytes(values)
