"""What a SavedModel must pass before anybody sees it.

Each gate gives the problems it finds, as sentences; none at all opens it.
"""

import pathlib
import re

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

_RANDOM = re.compile(r"Random|Multinomial|Dropout|RngRead")
_TRAINING = re.compile(r"^(Resource)?(Sparse)?Apply|Gradient|Grad$|BackpropInput")
_PYTHON = re.compile(r"PyFunc")


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
