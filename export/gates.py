"""What a SavedModel must pass before anybody sees it.

Each gate gives the problems it finds, as sentences; none at all opens it.
"""

import dataclasses
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from export import protos
from export.protos import example_pb2
from export.serving import CLASSIFY_KEY
from export.session import CLASSIFY_METHOD

PREDICT_METHOD = "tensorflow/serving/predict"
_INVALID_ARGUMENT = 3

# Probabilities of the same arithmetic, planned otherwise; in bfloat16 an activation has
# three significant digits.
_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}

_BATCHES = (1, 3, 64)
_NO_IMAGES = {
    "nothing": b"",
    "text": b"no image at all",
    "a header alone": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "a GIF of 60,000 x 60,000": b"GIF89a\x0a\0\x0a\0\0\0\0\x2c\0\0\0\0"
    b"\x60\xea\x60\xea\0\x02\x02\x4c\x01\0\x3b",
    "a bitmap of 60,000 x 60,000": b"BM" + bytes(12) + b"\x28\0\0\0" + b"\x60\xea\0\0"
    b"\x60\xea\0\0\x01\0\x18\0" + bytes(24),
}

_RANDOM = re.compile(r"Random|Multinomial|Dropout|RngRead")
_TRAINING = re.compile(r"^(Resource)?(Sparse)?Apply|Gradient|Grad$|BackpropInput")
_PYTHON = re.compile(r"PyFunc")


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the export should be.

    classes: K names.
    embedding_size: D.
    weight_bytes: of all variables.
    probabilities: float32 [N, K], the in-memory model's on the photographs.
    precision: "float32" or "bfloat16".
    """

    classes: Sequence[str]
    embedding_size: int
    weight_bytes: int
    probabilities: np.ndarray
    precision: str


def run_gates(
    saved_model_dir: pathlib.Path,
    photographs: Sequence[bytes],
    pixels: np.ndarray,
    expected: Expected,
) -> float:
    """Tries a SavedModel in every way; see the functions below.

    Args:
      photographs: N encoded images.
      pixels: uint8 [1, H, W, 3], the first of them, decoded.

    Returns:
      The largest difference of a probability from the in-memory model's.

    Raises:
      ValueError: a gate stays shut; lists all problems.
    """
    problems = [
        *find_graph_problems(saved_model_dir),
        *find_weight_problems(saved_model_dir, expected.weight_bytes),
    ]
    requests = make_requests(photographs, pixels)
    try:
        answered = answer_outside_python(saved_model_dir, list(requests.values()))
    except ValueError as error:
        answered, found = None, [str(error)]
    else:
        replies = dict(zip(requests, answered["replies"], strict=True))
        found = find_signature_problems(answered["signatures"], expected)
        found = found or find_reply_problems(replies, expected)
    problems += found
    if problems:
        raise ValueError(
            f"The export was not published: {'; '.join(problems)}. Nothing that is "
            "served has changed."
        )
    got = replies["batch of 64"]["probabilities"]
    return float(np.abs(got - _repeat(expected.probabilities, len(got))).max())


def _repeat(rows: Sequence, count: int) -> np.ndarray:
    return np.array([rows[index % len(rows)] for index in range(count)])


def make_requests(photographs: Sequence[bytes], pixels: np.ndarray) -> dict:
    """Name -> (signature, inputs): what is asked of an export."""
    many = [photographs[index % len(photographs)] for index in range(max(_BATCHES))]

    def strings(values):
        array = np.empty(len(values), object)
        array[:] = values
        return array

    def example(image_bytes):
        feature = {CLASSIFY_KEY: {"bytes_list": {"value": [image_bytes]}}}
        return example_pb2.Example(features={"feature": feature}).SerializeToString()

    def default(values):
        return "serving_default", {"image_bytes": strings(values)}

    mixed = [many[0], *_NO_IMAGES.values(), many[1]]
    return {
        **{f"batch of {size}": default(many[:size]) for size in _BATCHES},
        "again": default(many[: max(_BATCHES)]),
        "empty batch": default([]),
        "bad images": default(mixed),
        "strict": ("predict_strict", {"image_bytes": strings(many[:3])}),
        "strict and bad": ("predict_strict", {"image_bytes": strings([b"no image"])}),
        "classify": ("classify", {"inputs": strings([example(b) for b in mixed])}),
        "pixels": ("predict_pixels", {"image": pixels}),
        # Not the photograph: a large JPEG is decoded smaller.
        "pixels as PNG": default([tf.io.encode_png(pixels[0]).numpy()]),
        "features": ("features", {"image_bytes": strings(mixed)}),
    }


def answer_outside_python(saved_model_dir: pathlib.Path, requests: list) -> dict:
    """Runs session.answer in a process that never loads Python's TensorFlow.

    Raises:
      ValueError: the model does not load, or its warm-up fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, replied = (os.path.join(folder, name) for name in ("asked", "replied"))
        with open(asked, "wb") as file:
            pickle.dump(requests, file)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "export.session"),
                *(str(saved_model_dir.resolve()), asked, replied),
            ],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            cwd=pathlib.Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise ValueError(
                f"TensorFlow's C API does not run it: {lines[-1].strip()[:500]}"
            )
        with open(replied, "rb") as file:
            answered = pickle.load(file)
    if answered["python_tensorflow"]:
        raise ValueError("the check loaded Python's TensorFlow")
    if not answered["warmed_up"]:
        raise ValueError("its warm-up file holds no request")
    return answered


def read_meta_graph(saved_model_dir: pathlib.Path) -> meta_graph_pb2.MetaGraphDef:
    """The graph that the tag "serve" names, and only that."""
    content = (saved_model_dir / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return meta_graph


def find_graph_problems(saved_model_dir: pathlib.Path) -> list[str]:
    """Operations that a server cannot run, that train, or that answer by chance."""
    graph = read_meta_graph(saved_model_dir).graph_def
    bodies = [
        *graph.node,
        *(n for function in graph.library.function for n in function.node_def),
    ]
    problems = set()
    for node in bodies:
        if node.attr["_XlaMustCompile"].b:
            problems.add("it needs XLA, which servers leave off")
        if _RANDOM.search(node.op):
            problems.add(f"it holds a random operation, {node.op}")
        # A default, as True is here, is not written down.
        is_training = "is_training" not in node.attr or node.attr["is_training"].b
        trains = node.op.startswith("FusedBatchNorm") and is_training
        if trains or _TRAINING.search(node.op):
            problems.add(f"it holds an operation of training, {node.op}")
        if _PYTHON.search(node.op):
            problems.add(f"it calls Python, in {node.op}")
    for function in graph.library.function:
        if function.attr["_XlaMustCompile"].b:
            problems.add("it needs XLA, which servers leave off")
    return sorted(problems)


def find_weight_problems(saved_model_dir: pathlib.Path, weight_bytes: int) -> list[str]:
    """Whether the checkpoint holds the weights once and nothing else."""
    reader = tf.train.load_checkpoint(str(saved_model_dir / "variables/variables"))
    dtypes = reader.get_variable_to_dtype_map()
    stored = sum(
        int(np.prod(shape)) * dtypes[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    )
    if stored != weight_bytes:
        return [f"it stores {stored} bytes of weights; the model has {weight_bytes}"]
    return []


def declare_signatures(num_classes: int, embedding_size: int) -> dict:
    """Signature -> (method, inputs, outputs); each input and output: (dtype, shape)."""
    strings, floats = ("string", [-1]), ("float", [-1, num_classes])
    strict = {"probabilities": floats, "class_id": ("int64", [-1]), "label": strings}
    ok = {"decode_ok": ("bool", [-1])}
    embedding = {"embedding": ("float", [-1, embedding_size])}
    classes = {"classes": ("string", [-1, num_classes]), "scores": floats}
    image_bytes = {"image_bytes": strings}
    image = {"image": ("uint8", [-1, -1, -1, 3])}
    return {
        "serving_default": (PREDICT_METHOD, image_bytes, strict | ok),
        "predict_strict": (PREDICT_METHOD, image_bytes, strict),
        "classify": (CLASSIFY_METHOD, {"inputs": strings}, classes),
        "predict_pixels": (PREDICT_METHOD, image, strict),
        "features": (PREDICT_METHOD, image_bytes, embedding | ok),
    }


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
                        protos.dtype_name(info.dtype),
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
    if not isinstance(refused, tuple) or refused[0] != _INVALID_ARGUMENT:
        return [f"predict_strict takes a bad image: {refused}"]
    for name, reply in replies.items():
        if isinstance(reply, tuple) and name != "strict and bad":
            return [f"request '{name}' fails: {reply[1][:300]}"]
    return list(_compare_replies(replies, expected))


def _compare_replies(replies: Mapping[str, dict], expected: Expected) -> Iterator[str]:
    tolerance = _TOLERANCE[expected.precision]
    everything = replies[f"batch of {max(_BATCHES)}"]

    def differ(got, wanted, what):
        difference = float(np.abs(got - wanted).max(initial=0.0))
        if got.shape != wanted.shape or not difference <= tolerance:
            yield f"{what} by {difference:.2g} (allowed: {tolerance})"

    wanted = _repeat(expected.probabilities, max(_BATCHES))
    got = everything["probabilities"]
    yield from differ(got, wanted, "probabilities differ from the model's")
    names = [expected.classes[k].encode() for k in got.argmax(axis=1)]
    if names != everything["label"].tolist() or not everything["decode_ok"].all():
        yield "labels do not belong to the probabilities"
    again = replies["again"]
    if any(not np.array_equal(again[key], everything[key]) for key in everything):
        yield "two equal requests get different answers"
    for size in _BATCHES[:-1]:
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
    good = [True, *(False for _ in _NO_IMAGES), True]
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
