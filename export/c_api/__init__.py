"""A SavedModel on TensorFlow's C API, without Python's TensorFlow.

TensorFlow Serving builds on the same loader, so that a model that fails here also fails
on a server.

library.py: loads TensorFlow's C library
session.py: loads a SavedModel and runs its signatures
answer.py: replays the warm-up requests; a command that answers requests from a file
"""
