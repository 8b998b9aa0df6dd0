"""Serves an export directory as TensorFlow Serving does, for development and tests.

versions.py     loads, labels and unloads versions while requests run
handlers.py     answers the requests of gRPC: predict, classify, metadata, status
limits.py       refuses requests whose images have too many pixels
rest_paths.py   reads the method and the path of a REST request
rest_bodies.py  decompresses and parses the body of a REST request
rest_json.py    answers REST requests: JSON to messages and arrays, and back
servers.py      starts, runs and stops the gRPC and the REST server
log.py          prints lines for the terminal, without control characters
"""
