"""The status codes that TensorFlow, gRPC and TensorFlow Serving share."""

import enum


class Code(enum.IntEnum):
    """The codes that this project names; the values are those of google.rpc.Code."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


# As TensorFlow Serving's REST handler translates them; every other code is 500.
HTTP_STATUS_OF_CODE = {
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
    """An error that carries one of the codes, TensorFlow's others included."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code
        self.message = message
