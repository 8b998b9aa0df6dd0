"""What a SavedModel must pass before anybody sees it.

Each gate gives the problems it finds, as sentences; none at all opens it.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from export.checks.requests import BATCHES, NO_IMAGES, Expected, repeat
from export.graph.signatures import declare_signatures
from export.protocol import tensors
from export.protocol.status import Code

# Probabilities of the same arithmetic, planned otherwise; in bfloat16 an activation has
# three significant digits.
_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}


def find_signature_problems(
    signatures: Mapping[str, bytes], expected: Expected
) -> list[str]:
    """Names, types and shapes against the declaration; a batch is of any size."""
    found = {}
    for name, serialized in signatures.items():
        signature = meta_graph_pb2.SignatureDef.FromString(serialized)
        found[name] = (
            signature.method_name,
            *(
                {
                    key: (
                        tensors.dtype_name(info.dtype),
                        [dimension.size for dimension in info.tensor_shape.dim],
                    )
                    for key, info in endpoints.items()
                }
                for endpoints in (signature.inputs, signature.outputs)
            ),
        )
    wanted = declare_signatures(len(expected.classes), expected.embedding_size)
    return [
        f"signature {name} is {found.get(name)} and not {wanted.get(name)}"
        for name in sorted(set(found) | set(wanted))
        if found.get(name) != wanted.get(name)
    ]


def find_reply_problems(
    replies: Mapping[str, dict | tuple], expected: Expected
) -> list[str]:
    """Replies to make_requests() against the in-memory model and one another."""
    refused = replies["strict and bad"]
    if not isinstance(refused, tuple) or refused[0] != Code.INVALID_ARGUMENT:
        return [f"predict_strict takes a bad image: {refused}"]
    for name, reply in replies.items():
        if isinstance(reply, tuple) and name != "strict and bad":
            return [f"request '{name}' fails: {reply[1][:300]}"]
    return list(_compare_replies(replies, expected))


def _compare_replies(replies: Mapping[str, dict], expected: Expected) -> Iterator[str]:
    tolerance = _TOLERANCE[expected.precision]
    everything = replies[f"batch of {max(BATCHES)}"]

    def differ(got, wanted, what):
        difference = float(np.abs(got - wanted).max(initial=0.0))
        if got.shape != wanted.shape or not difference <= tolerance:
            yield f"{what} by {difference:.2g} (allowed: {tolerance})"

    wanted = repeat(expected.probabilities, max(BATCHES))
    got = everything["probabilities"]
    yield from differ(got, wanted, "probabilities differ from the model's")
    names = [expected.classes[k].encode() for k in got.argmax(axis=1)]
    if names != everything["label"].tolist() or not everything["decode_ok"].all():
        yield "labels do not belong to the probabilities"
    again = replies["again"]
    if any(not np.array_equal(again[key], everything[key]) for key in everything):
        yield "two equal requests get different answers"
    for size in BATCHES[:-1]:
        part = replies[f"batch of {size}"]["probabilities"]
        yield from differ(part, got[:size], f"rows of a batch of {size} differ")
    if any(len(value) for value in replies["empty batch"].values()):
        yield "an empty batch gets rows"
    strict = replies["strict"]["probabilities"]
    yield from differ(strict, got[:3], "predict_strict differs")
    pixels = replies["pixels"]["probabilities"]
    same = replies["pixels as PNG"]["probabilities"]
    yield from differ(pixels, same, "predict_pixels differs")
    yield from _compare_bad_rows(replies, got, differ)


def _compare_bad_rows(replies: Mapping[str, dict], got: np.ndarray, differ):
    mixed = replies["bad images"]
    good = [True, *(False for _ in NO_IMAGES), True]
    if mixed["decode_ok"].tolist() != good:
        yield f"bad images are not told from good ones: {mixed['decode_ok'].tolist()}"
        return
    rows = mixed["probabilities"][[0, -1]]
    yield from differ(rows, got[:2], "bad images spoil other rows")
    bad = slice(1, -1)
    blank = (
        not mixed["probabilities"][bad].any()
        and (mixed["class_id"][bad] == -1).all()
        and not any(mixed["label"][bad].tolist())
        and not replies["features"]["embedding"][bad].any()
        and not replies["classify"]["scores"][bad].any()
        and not any(replies["classify"]["classes"][bad].ravel().tolist())
    )
    if not blank:
        yield "the rows of bad images are not blank"
    scores = replies["classify"]["scores"][[0, -1]]
    yield from differ(scores, -np.sort(-got[:2], axis=1), "classify's scores differ")
    if replies["features"]["decode_ok"].tolist() != good:
        yield "features does not tell bad images from good ones"
