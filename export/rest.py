"""TensorFlow Serving's JSON: what a body means and how a reply looks.

Everything here raises ValueError for a body that is wrong.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping

import numpy as np

from export import protos
from export.protos import classification_pb2, example_pb2, meta_graph_pb2

_BYTES_SUFFIX = "_bytes"  # of an output's name: its strings are no text
_SHOWN_LENGTH = 80
_TYPE_NAMES = {
    dict: "object",
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def parse(body: bytes) -> dict:
    """A body -> the object in it, whose signature_name is a string."""
    if not body:
        raise ValueError("JSON parse error: the body is empty")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON parse error: {error}") from error
    if not isinstance(payload, dict):
        raise ValueError(f"The body is a JSON object. Received: {_show(payload)}")
    name = payload.get("signature_name", "")
    if not isinstance(name, str):
        raise ValueError(f"signature_name is a string. Received: {_show(name)}")
    return payload


def to_inputs(
    payload: dict, infos: Mapping[str, meta_graph_pb2.TensorInfo]
) -> dict[str, np.ndarray]:
    """The tensors of a predict body: rows in "instances" or columns in "inputs"."""
    if ("instances" in payload) == ("inputs" in payload):
        raise ValueError(
            "A body has one of 'instances' and 'inputs'. Received: "
            f"{', '.join(payload) or 'an empty object'}"
        )
    if "instances" in payload:
        columns = _to_columns(payload["instances"], infos)
    elif _is_named(payload["inputs"]):
        columns = payload["inputs"]
        # As in TensorFlow Serving, names that the signature has not are overlooked.
        if missing := set(infos) - set(columns):
            raise ValueError(
                f"'inputs' misses {', '.join(sorted(missing))}. Received: "
                f"{', '.join(columns) or 'an empty object'}"
            )
    else:
        columns = {_only(infos): payload["inputs"]}
    return {name: _to_array(columns[name], info.dtype) for name, info in infos.items()}


def _to_columns(
    rows: list, infos: Mapping[str, meta_graph_pb2.TensorInfo]
) -> dict[str, list]:
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"'instances' is a list of rows. Received: {_show(rows)}")
    if not _is_named(rows[0]):
        if any(map(_is_named, rows)):
            raise ValueError("'instances' holds values or objects, not both")
        return {_only(infos): rows}
    for index, row in enumerate(rows):
        if not _is_named(row) or set(row) != set(infos):
            raise ValueError(
                f"A row has {', '.join(sorted(infos))}. Received in row {index}: "
                f"{_show(row)}"
            )
    return {name: [row[name] for row in rows] for name in infos}


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and not _is_b64(value)


def _is_b64(value: object) -> bool:
    return (
        isinstance(value, dict) and set(value) == {"b64"} and type(value["b64"]) is str
    )


def _only(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> str:
    if len(infos) != 1:
        raise ValueError(
            f"The signature has several inputs, which need names: "
            f"{', '.join(sorted(infos))}"
        )
    return next(iter(infos))


def _to_array(value: object, number: int) -> np.ndarray:
    """Nested lists -> a tensor; all lists of a level have the same length."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    leaves = [value]
    for size in shape:
        if any(not isinstance(each, list) or len(each) != size for each in leaves):
            raise ValueError(
                f"The lists have the lengths {shape} at every place. Received: "
                f"{_show(value)}"
            )
        leaves = [leaf for each in leaves for leaf in each]
    dtype = protos.NUMPY_OF[number]
    array = np.empty(len(leaves), dtype)
    try:
        array[:] = [_to_leaf(leaf, dtype) for leaf in leaves]
    except OverflowError as error:
        raise ValueError(f"Not of type {dtype}: {error}") from error
    return array.reshape(shape)


def _to_leaf(value: object, dtype: np.dtype) -> object:
    if dtype.kind == "O" and isinstance(value, str):
        return value.encode()
    if dtype.kind == "O" and _is_b64(value):
        return _from_b64(value["b64"])
    if dtype.kind == "b" and isinstance(value, bool):
        return value
    if dtype.kind in "iu" and type(value) is int:
        return value
    if dtype.kind == "f" and type(value) in (int, float):
        limit = np.finfo(dtype)
        exact = 2 ** (limit.nmant + 1) - 1
        largest = exact if type(value) is int else float(limit.max)
        if largest < abs(value) < np.inf:
            raise ValueError(f"{_show(value)} does not fit into {dtype}")
        return value
    wanted = "string" if dtype.kind == "O" else dtype.name
    raise ValueError(
        f"Expected a value of type {wanted}. Received: {_show(value)}, of type "
        f"{_TYPE_NAMES[type(value)]}"
    )


def _from_b64(text: str) -> bytes:
    """Blanks are overlooked and the padding may be missing, as the original has it."""
    bare = re.sub(r"\s+", "", text).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"Not base64. Received: {_show(text)}") from error


def to_classification_request(
    payload: dict,
) -> classification_pb2.ClassificationRequest:
    """The tf.Examples of a classify or regress body."""
    examples = payload.get("examples")
    if not isinstance(examples, list) or not examples:
        raise ValueError(
            f"'examples' is a list of objects. Received: {_show(examples)}"
        )
    request = classification_pb2.ClassificationRequest()
    into = request.input.example_list.examples
    if "context" in payload:
        with_context = request.input.example_list_with_context
        _fill_example(with_context.context, payload["context"])
        into = with_context.examples
    for example in examples:
        _fill_example(into.add(), example)
    return request


def _fill_example(example: example_pb2.Example, features: object) -> None:
    if not isinstance(features, dict):
        raise ValueError(f"An example is an object. Received: {_show(features)}")
    for name, content in features.items():
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            if isinstance(value, str) or _is_b64(value):
                kind = "bytes_list"
                value = _to_leaf(value, np.dtype(object))
            elif isinstance(value, float):
                kind = "float_list"
            elif isinstance(value, int):
                kind = "int64_list"
            else:
                raise ValueError(f"No value of {name}. Received: {_show(value)}")
            if feature.WhichOneof("kind") not in (None, kind):
                raise ValueError(f"The values of {name} are of several types")
            getattr(feature, kind).value.append(value)


def to_reply(payload: dict, outputs: Mapping[str, np.ndarray]) -> dict:
    """The outputs of a predict body's signature, by row or by column as it asked."""
    columns = {name: _to_json(name, array) for name, array in outputs.items()}
    if "inputs" in payload:
        return {
            "outputs": columns if len(columns) > 1 else next(iter(columns.values()))
        }
    sizes = {array.shape[:1] for array in outputs.values()}
    if len(sizes) != 1 or () in sizes:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
        raise ValueError(f"Rows need outputs of one length. Received: {shapes}")
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def to_classify_reply(result: classification_pb2.ClassificationResult) -> dict:
    """One list of [label, score] an example."""
    return {
        "results": [
            [[each.label, _shortest(np.float32(each.score))] for each in one.classes]
            for one in result.classifications
        ]
    }


def _to_json(name: str, array: np.ndarray) -> object:
    if array.dtype == object:
        to_leaf = _to_b64 if name.endswith(_BYTES_SUFFIX) else _to_text
    elif array.dtype == np.float32:
        to_leaf = _shortest
    else:
        return array.tolist()
    leaves = np.empty(array.size, object)
    leaves[:] = [to_leaf(value) for value in array.ravel()]
    return leaves.reshape(array.shape).tolist()


def _to_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _to_b64(value: bytes) -> dict:
    return {"b64": base64.b64encode(value).decode()}


def _shortest(value: np.float32) -> float:
    """0.2 and not 0.20000000298: the shortest that reads as the same float32."""
    return float(str(value))


def _show(value: object) -> str:
    """A value as JSON, cut where a photograph would fill the screen."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."
