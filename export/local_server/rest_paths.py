"""Reads the method and the path of a REST request as TensorFlow Serving does."""

import re
import urllib.parse

from export.protocol.messages import model_pb2
from export.protocol.status import Code, StatusError

# The HTTP server of TensorFlow Serving has no other methods.
_HTTP_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")

# A client that uses a proxy sends the whole address instead of the path.
_HOST = re.compile(r"(?i)https?://[^/?#]*")

# The characters of a path with its query and fragment, by RFC 3986.
_URI = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#-]|%[0-9A-Fa-f]{2})+")

_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "POST": re.compile(
        rf"(?i)/v1/models/(?P<name>[^/:]+){_VERSION}"
        r":(?P<action>classify|regress|predict)"
    ),
    "GET": re.compile(
        rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<action>metadata))?"
    ),
}


def read_target(method: str, path: str) -> tuple[str, model_pb2.ModelSpec]:
    """Returns the action of a request, and the model and version that it names.

    Args:
      method: HTTP method of the request.
      path: as the client sent it, with its escapes, perhaps with host and query.

    Returns:
      The action: "predict", "classify" or "regress" for POST, "metadata" or "status"
      for GET; and the model with its version or label.

    Raises:
      StatusError: the method, the path or the version is malformed.
    """
    path = path[host.end() :] if (host := _HOST.match(path)) else path
    malformed = f"Malformed request: {method} {path}"
    if method not in _HTTP_METHODS:
        raise StatusError(Code.UNIMPLEMENTED, malformed)
    if not _URI.fullmatch(path):
        raise StatusError(Code.INVALID_ARGUMENT, malformed)
    if not path.lower().startswith("/v1/"):
        raise StatusError(Code.NOT_FOUND, malformed)
    match = _PATHS[method].fullmatch(path) if method in _PATHS else None
    if not match:
        raise StatusError(Code.INVALID_ARGUMENT, malformed)
    if not match["name"]:
        raise StatusError(Code.INVALID_ARGUMENT, "Missing model name in request.")
    name, label = (urllib.parse.unquote(match[key] or "") for key in ("name", "label"))
    spec = model_pb2.ModelSpec(name=name, version_label=label)
    if match["version"]:
        spec.version.value = _read_version(match["version"])
    # As in TensorFlow Serving, capitals are understood everywhere but in the action.
    if method == "GET":
        return "metadata" if match["action"] == "metadata" else "status", spec
    if not match["action"].islower():
        raise StatusError(Code.INVALID_ARGUMENT, malformed)
    return match["action"], spec


def _read_version(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    if len(significant) > 19 or int(significant) >= 1 << 63:
        raise StatusError(
            Code.INVALID_ARGUMENT, f"Failed to convert version: {digits} to numeric."
        )
    return int(significant)
