"""Names the status codes that TensorFlow, gRPC and TensorFlow Serving share."""

import enum


class Code(enum.IntEnum):
    """Status codes that this project uses; the values are those of google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


# The HTTP status that TensorFlow Serving's REST API sends for a code; it sends 500 for
# every other code.
HTTP_STATUS_OF_CODE: dict[int, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}


class StatusError(Exception):
    """An error of a server or of TensorFlow with its status code.

    code: a Code, or another number of google.rpc.Code that TensorFlow reports.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code
        self.message = message
