"""Declares the data that the check of an export exchanges with its process."""

from typing import TypedDict

import numpy as np

# Inputs or outputs of a signature: name -> array. Strings are bytes objects.
Arrays = dict[str, np.ndarray]
Request = tuple[str, Arrays]  # signature, inputs
Failure = tuple[int, str]  # status code, message


class Answer(TypedDict):
    """The result of export.c_api.answer.

    signatures: name -> serialized SignatureDef.
    warmed_up: number of requests in the warm-up file.
    replies: the outputs of each request, or the status code and message of its failure.
    python_tensorflow: True if Python's TensorFlow was loaded.
    """

    signatures: dict[str, bytes]
    warmed_up: int
    replies: list[Arrays | Failure]
    python_tensorflow: bool
