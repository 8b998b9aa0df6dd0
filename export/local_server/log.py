"""Prints lines for the terminal, without control characters."""

from pipeline.system import texts

# A message of TensorFlow can hold a whole graph, and a request a whole photograph.
_MAX_CHARACTERS = 400


def log(line: str) -> None:
    """Prints a line at once, without the delay of a buffer.

    Control characters are escaped, because a client or a file may have put them into
    the line.
    """
    print(texts.escape_controls(line), flush=True)


def to_one_line(value: object) -> str:
    """Returns the text of a value as one line of limited length, controls escaped."""
    line = " ".join(str(value)[: 4 * _MAX_CHARACTERS].split()) or type(value).__name__
    line = texts.escape_controls(line)
    return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}..."
