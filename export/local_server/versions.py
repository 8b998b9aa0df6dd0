"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

import contextlib
import dataclasses
import pathlib
import re
import threading
import time
from collections.abc import Iterable, Iterator

from google.protobuf import text_format
from google.protobuf.message import Message

from export.c_api.answer import replay_warmup
from export.c_api.session import Session
from export.local_server.log import one_line, say
from export.protocol import messages
from export.protocol.status import Code, StatusError


@dataclasses.dataclass
class Version:
    number: int
    session: Session
    requests: int = 0
    leaving: bool = False


class Versions:
    """The versions of an export directory, as its models.config asks for them.

    Requests come from any thread; one at a time calls poll() or close().
    """

    def __init__(self, export_dir: str):
        self._dir = pathlib.Path(export_dir)
        self._lock = threading.Lock()
        self._serving: dict[int, Version] = {}
        self._labels: dict[str, int] = {}
        self._states: dict[int, Message] = {}
        self._failed: dict[int, list] = {}  # version -> its files when it was tried
        self._has_config = self._waits = False

    @contextlib.contextmanager
    def use(self, spec: Message) -> Iterator[Version]:
        """The version that a request asks for, which stays loaded meanwhile.

        Raises:
          StatusError: there is none.
        """
        with self._lock:
            version = self._find(spec)
            version.requests += 1
        try:
            yield version
        finally:
            with self._lock:
                version.requests -= 1
                unused = version.leaving and not version.requests
            if unused:
                self._unload(version)

    def _find(self, spec: Message) -> Version:
        number, asked = max(self._serving, default=None), "the newest version"
        if spec.WhichOneof("version_choice") == "version":
            number = asked = spec.version.value
        elif spec.version_label:
            number, asked = self._labels.get(spec.version_label), spec.version_label
            if number is None or spec.name != messages.MODEL_NAME:
                raise StatusError(
                    Code.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {asked}",
                )
        if spec.name != messages.MODEL_NAME or number not in self._serving:
            raise StatusError(
                Code.NOT_FOUND, f"Servable not found for request: {spec.name}, {asked}"
            )
        return self._serving[number]

    def states(self, spec: Message) -> list[Message]:
        """The state of one version, or of all that there ever were, newest first.

        Raises:
          StatusError: there is no such model or version.
        """
        number = spec.version.value if spec.HasField("version") else None
        with self._lock:
            found = sorted(self._states.items(), reverse=True)
        found = [state for known, state in found if number in (None, known)]
        if spec.name != messages.MODEL_NAME or not found:
            which = "any versions" if number is None else f"version {number}"
            raise StatusError(
                Code.NOT_FOUND, f"Could not find {which} of model {spec.name}"
            )
        return found

    def poll(self) -> None:
        """Loads what is new, moves the labels to it and retires what is not wanted.

        Raises:
          ValueError: models.config does not describe this model; nothing is changed.
        """
        config = self._read_config()
        wanted = self._list_wanted(config.model_version_policy)
        self._failed = {k: v for k, v in self._failed.items() if k in wanted}
        for number in sorted(wanted.keys() - self._serving, reverse=True):
            self._load(number, wanted[number])
        with self._lock:
            for label, number in config.version_labels.items():
                # It moves when the version it moves to is there.
                if number in self._serving or label not in self._labels:
                    self._labels[label] = number
            for label in self._labels.keys() - config.version_labels:
                del self._labels[label]
        stays = set(wanted)
        if wanted and not stays & self._serving.keys():
            # The last one leaves when another can follow it.
            stays = {max(self._serving, default=None)}
        self._retire(self._serving.keys() - stays)
        if not wanted and not self._waits:
            say(f"no version to serve in {self._dir}; waiting for one")
        self._waits = not wanted

    def close(self) -> None:
        """Unloads every version as soon as no request runs on it."""
        self._retire(list(self._serving))

    def _read_config(self) -> Message:
        path = self._dir / messages.MODELS_FILE
        found = messages.model_server_config_pb2.ModelServerConfig()
        if not path.exists() and not self._has_config:
            return messages.model_server_config_pb2.ModelConfig()
        self._has_config = True
        try:
            text_format.Parse(path.read_text(), found)
        except (text_format.ParseError, OSError) as error:
            raise ValueError(f"{path}: {error}") from error
        names = [model.name for model in found.model_config_list.config]
        if names != [messages.MODEL_NAME]:
            raise ValueError(
                f"{path} describes one model, {messages.MODEL_NAME}. Received: {names}"
            )
        return found.model_config_list.config[0]

    def _list_wanted(self, policy: Message) -> dict[int, pathlib.Path]:
        found = {
            int(path.name): path
            for path in self._dir.iterdir()
            if re.fullmatch("[0-9]{1,19}", path.name) and int(path.name) < 1 << 63
        }
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return found
        numbers = sorted(found)[-max(policy.latest.num_versions, 1) :]
        if choice == "specific":
            numbers = found.keys() & policy.specific.versions
        return {number: found[number] for number in numbers}

    def _load(self, number: int, path: pathlib.Path) -> None:
        content = _list_files(path)
        if self._failed.get(number) == content:
            return
        self._set_state(number, "LOADING")
        start, loaded, count = time.monotonic(), None, 0
        try:
            loaded = Session(str(path))
            if (path / messages.WARMUP_FILE).exists():
                count = replay_warmup(loaded, str(path))
        # Whatever a damaged model raises, the other versions go on serving.
        except Exception as error:
            if loaded:
                loaded.close()
            self._failed[number] = content
            line = one_line(error)
            self._set_state(number, "END", getattr(error, "code", Code.INTERNAL), line)
            say(f"version {number} is not served: {line}")
            return
        with self._lock:
            self._serving[number] = Version(number, loaded)
        self._set_state(number, "AVAILABLE")
        seconds = time.monotonic() - start
        say(
            f"version {number} loaded in {seconds:.1f} s, {count} requests of its "
            "warm-up answered"
        )

    def _retire(self, numbers: Iterable[int]) -> None:
        for number in sorted(numbers):
            self._set_state(number, "UNLOADING")
            with self._lock:
                version = self._serving.pop(number)
                version.leaving = True
                unused = not version.requests
            if unused:
                self._unload(version)

    def _unload(self, version: Version) -> None:
        version.session.close()
        self._set_state(version.number, "END")
        say(f"version {version.number} unloaded")

    def _set_state(
        self, number: int, state: str, code: int = 0, message: str = ""
    ) -> None:
        status = {"error_code": code, "error_message": message}
        with self._lock:
            if state == "END" and number in self._serving:  # it has come back meanwhile
                return
            self._states[number] = messages.get_model_status_pb2.ModelVersionStatus(
                version=number, state=state, status=status
            )


def _list_files(path: pathlib.Path) -> list:
    """Differs when a file of the version does; nothing is read."""
    found = []
    for file in sorted(path.rglob("*")):
        with contextlib.suppress(OSError):  # it may go while we look
            found.append((file, file.stat().st_size, file.stat().st_mtime_ns))
    return found
