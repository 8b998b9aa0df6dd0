"""Checks the operations of a SavedModel's graph and the size of its checkpoint."""

import pathlib
import re

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

_RANDOM = re.compile(r"Random|Multinomial|Dropout|RngRead")
_TRAINING = re.compile(r"^(Resource)?(Sparse)?Apply|Gradient|Grad$|BackpropInput")
_PYTHON = re.compile(r"PyFunc")
_NEEDS_XLA = "it needs XLA, which is off by default in TensorFlow Serving"


def read_meta_graph(saved_model_dir: pathlib.Path) -> meta_graph_pb2.MetaGraphDef:
    """Reads the only graph of a SavedModel."""
    content = (saved_model_dir / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return meta_graph


def find_graph_problems(saved_model_dir: pathlib.Path) -> list[str]:
    """Finds operations that a server cannot run, that train or that are random."""
    graph = read_meta_graph(saved_model_dir).graph_def
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    problems = set()
    for node in nodes:
        if node.attr["_XlaMustCompile"].b:
            problems.add(_NEEDS_XLA)
        if _RANDOM.search(node.op):
            problems.add(f"it holds a random operation, {node.op}")
        # A SavedModel omits attributes that have their default, here True.
        is_training = "is_training" not in node.attr or node.attr["is_training"].b
        trains = node.op.startswith("FusedBatchNorm") and is_training
        if trains or _TRAINING.search(node.op):
            problems.add(f"it holds an operation of training, {node.op}")
        if _PYTHON.search(node.op):
            problems.add(f"it calls Python, in {node.op}")
    for function in graph.library.function:
        if function.attr["_XlaMustCompile"].b:
            problems.add(_NEEDS_XLA)
    return sorted(problems)


def find_weight_problems(saved_model_dir: pathlib.Path, weight_bytes: int) -> list[str]:
    """Checks that the checkpoint holds the weights once, and nothing else."""
    reader = tf.train.load_checkpoint(str(saved_model_dir / "variables/variables"))
    dtypes = reader.get_variable_to_dtype_map()
    stored_bytes = sum(
        int(np.prod(shape)) * dtypes[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    )
    if stored_bytes != weight_bytes:
        return [
            f"it stores {stored_bytes} bytes of weights; the model has {weight_bytes}"
        ]
    return []
