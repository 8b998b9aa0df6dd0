"""Checks the signatures of a SavedModel and its replies to the requests."""

from collections.abc import Iterator, Mapping

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from export.checks.check_requests import (
    BAD_IMAGES,
    BATCH_SIZES,
    MAX_BATCH_SIZE,
    Arrays,
    ExpectedExport,
    Replies,
    repeat_rows,
)
from export.graph.signatures import Endpoints, declare_signatures
from export.protocol import tensors
from export.protocol.status import Code
from pipeline.inspection.reencoding import StoredForm
from trainer.postprocessing.postprocessing import Postprocessing

# In float32 the server plans the same arithmetic in another order. In bfloat16 an
# activation has three significant digits.
_TOLERANCES = {"float32": 1e-5, "bfloat16": 0.05}


# A score is no probability: it has the size of the logits, and a distance between
# features that are nearly equal magnifies rounding.
_SCORE_TOLERANCE = 100.0

# The outputs of serving_default that are 0 or False for a bad image.
_NUMBERS = ("probabilities", "in_set", "unknown_score", "is_unknown", "decode_ok")


def find_signature_problems(
    signatures: Mapping[str, bytes], expected: ExpectedExport
) -> list[str]:
    """Compares names, types and shapes with the declaration.

    Args:
      signatures: name -> serialized SignatureDef.
    """
    actual = {}
    for name, serialized in signatures.items():
        signature = meta_graph_pb2.SignatureDef.FromString(serialized)
        actual[name] = (
            signature.method_name,
            _read_endpoints(signature.inputs),
            _read_endpoints(signature.outputs),
        )
    declared = declare_signatures(len(expected.classes), expected.embedding_size)
    return [
        f"signature {name} is {actual.get(name)} and not {declared.get(name)}"
        for name in sorted(set(actual) | set(declared))
        if actual.get(name) != declared.get(name)
    ]


def _read_endpoints(
    endpoints: Mapping[str, meta_graph_pb2.TensorInfo],
) -> Endpoints:
    return {
        name: (
            tensors.dtype_name(info.dtype),
            [dimension.size for dimension in info.tensor_shape.dim],
        )
        for name, info in endpoints.items()
    }


def find_reply_problems(replies: Replies, expected: ExpectedExport) -> list[str]:
    """Compares replies with the model in memory and with one another.

    Args:
      replies: to the requests of make_requests(), by the same names.
    """
    refusal = replies["strict and bad"]
    if not isinstance(refusal, tuple) or refusal[0] != Code.INVALID_ARGUMENT:
        return [f"predict_strict does not refuse a bad image: {refusal}"]
    outputs: dict[str, Arrays] = {}
    for name, reply in replies.items():
        if not isinstance(reply, tuple):
            outputs[name] = reply
        elif name != "strict and bad":
            return [f"request '{name}' fails: {reply[1][:300]}"]
    tolerance = _TOLERANCES[expected.precision]
    return [
        *_find_row_problems(outputs, expected, tolerance),
        *_find_bad_image_problems(outputs, tolerance),
        *_find_preparation_problems(outputs["preparation"], expected.form),
    ]


def _find_preparation_problems(reply: Arrays, form: StoredForm) -> Iterator[str]:
    told = {name: values.tolist() for name, values in reply.items()}
    bits = form.sample_bits or 16
    if told != {
        "background": [form.background.encode()] * 2,
        "sample_bits": [bits] * 2,
    }:
        yield f"preparation says {told} and not {form}"


def _find_row_problems(
    outputs: Mapping[str, Arrays], expected: ExpectedExport, tolerance: float
) -> Iterator[str]:
    largest_batch = outputs[f"batch of {MAX_BATCH_SIZE}"]
    probabilities = largest_batch["probabilities"]
    yield from _compare(
        probabilities,
        repeat_rows(expected.replies["probabilities"], MAX_BATCH_SIZE),
        tolerance,
        "probabilities differ from the model's",
    )
    scores = expected.replies["unknown_score"]
    yield from _compare(
        largest_batch["unknown_score"],
        repeat_rows(scores, MAX_BATCH_SIZE),
        _SCORE_TOLERANCE * tolerance * (1 + float(np.abs(scores).max())),
        "unknown_score differs from the model's",
    )
    yield from _find_decision_problems(largest_batch, expected.postprocessing)
    labels = [expected.classes[k].encode() for k in probabilities.argmax(axis=1)]
    if (
        labels != largest_batch["label"].tolist()
        or not largest_batch["decode_ok"].all()
    ):
        yield "labels do not belong to the probabilities"
    again = outputs["again"]
    if any(not np.array_equal(again[name], largest_batch[name]) for name in again):
        yield "two equal requests get different answers"
    for size in BATCH_SIZES[:-1]:
        rows = outputs[f"batch of {size}"]["probabilities"]
        yield from _compare(
            rows,
            probabilities[:size],
            tolerance,
            f"rows of a batch of {size} differ",
        )
    if any(len(array) for array in outputs["empty batch"].values()):
        yield "an empty batch gets rows"
    yield from _compare(
        outputs["strict"]["probabilities"],
        probabilities[:3],
        tolerance,
        "predict_strict differs",
    )
    yield from _compare(
        outputs["pixels"]["probabilities"],
        outputs["pixels as PNG"]["probabilities"],
        tolerance,
        "predict_pixels differs",
    )


def _find_bad_image_problems(
    outputs: Mapping[str, Arrays], tolerance: float
) -> Iterator[str]:
    mixed, classify = outputs["bad images"], outputs["classify"]
    probabilities = outputs[f"batch of {MAX_BATCH_SIZE}"]["probabilities"][:2]
    expected_ok = [True, *(False for _ in BAD_IMAGES), True]
    decode_ok = mixed["decode_ok"].tolist()
    if decode_ok != expected_ok:
        yield f"decode_ok does not tell bad images from good ones: {decode_ok}"
        return
    yield from _compare(
        mixed["probabilities"][[0, -1]],
        probabilities,
        tolerance,
        "bad images change other rows",
    )
    bad = slice(1, -1)
    is_blank = (
        not any(mixed[name][bad].any() for name in _NUMBERS)
        and (mixed["class_id"][bad] == -1).all()
        and not any(mixed["label"][bad].tolist())
        and not outputs["features"]["embedding"][bad].any()
        and not classify["scores"][bad].any()
        and not any(classify["classes"][bad].ravel().tolist())
    )
    if not is_blank:
        yield "the rows of bad images are not blank"
    yield from _compare(
        classify["scores"][[0, -1]],
        -np.sort(-probabilities, axis=1),
        tolerance,
        "classify's scores differ",
    )
    if outputs["features"]["decode_ok"].tolist() != expected_ok:
        yield "decode_ok of features does not tell bad images from good ones"


def _find_decision_problems(
    outputs: Arrays, postprocessing: Postprocessing
) -> Iterator[str]:
    """Compares in_set and is_unknown with the numbers of the same reply."""
    probabilities = outputs["probabilities"]
    in_set = probabilities >= np.float32(postprocessing.min_set_probability)
    in_set[np.arange(len(in_set)), probabilities.argmax(axis=1)] = True
    if not np.array_equal(outputs["in_set"], in_set):
        yield "in_set does not belong to the probabilities"
    threshold = np.float32(postprocessing.unknown_threshold)
    if not np.array_equal(outputs["is_unknown"], outputs["unknown_score"] > threshold):
        yield "is_unknown does not belong to unknown_score"


def _compare(
    actual: np.ndarray, expected: np.ndarray, tolerance: float, problem: str
) -> Iterator[str]:
    """Yields the problem if two arrays differ by more than the tolerance, or by NaN."""
    if actual.shape != expected.shape:
        yield f"{problem}: shape {actual.shape} and not {expected.shape}"
        return
    difference = float(np.abs(actual - expected).max(initial=0.0))
    if not difference <= tolerance:
        yield f"{problem} by {difference:.2g} (allowed: {tolerance})"
