"""Checks a SavedModel before it is published.

Each check returns a list of problems, as sentences; an empty list means that it passed.

check_requests.py: what the model is sent, and what the export must be.
c_api_process.py: sends the requests in a process without Python's TensorFlow.
graph_checks.py: checks the operations of the graph and the size of the checkpoint.
reply_checks.py: checks the signatures and the replies.
check_export.py: runs all checks and raises if one of them failed.
"""
