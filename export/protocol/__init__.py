"""TensorFlow Serving's messages, without Python's TensorFlow.

messages.py: imports the generated messages; names of files, keys and methods
status.py: status codes and the exception that carries one
exchange.py: types of the data that the check exchanges with its process
tensors.py: converts between TensorProto and numpy
"""
