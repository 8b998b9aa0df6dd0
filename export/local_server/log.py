"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

_MAX_SHOWN = 400  # TensorFlow's messages may hold a graph, a body a photograph


def say(line: str) -> None:
    print(line, flush=True)


def one_line(value: object) -> str:
    line = " ".join(str(value)[: 4 * _MAX_SHOWN].split()) or type(value).__name__
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."
