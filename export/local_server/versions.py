"""Loads, labels and unloads the versions of an export directory while requests run."""

import contextlib
import dataclasses
import pathlib
import re
import threading
import time
from collections.abc import Iterable, Iterator

from google.protobuf import text_format

from export.c_api.answer import replay_warmup
from export.c_api.session import Session
from export.local_server.log import log, to_one_line
from export.protocol import messages
from export.protocol.messages import (
    get_model_status_pb2,
    model_pb2,
    model_server_config_pb2,
)
from export.protocol.status import Code, StatusError

# The path, size in bytes and modification time in ns of each file of a version.
_FileList = list[tuple[pathlib.Path, int, int]]


@dataclasses.dataclass
class Version:
    """A loaded version.

    running_requests: number of requests that use the version now.
    is_retired: True if no new request gets the version; it is unloaded after the last
      running request.
    """

    number: int
    session: Session
    running_requests: int = 0
    is_retired: bool = False


class Versions:
    """The versions of an export directory that its models.config selects.

    Threads: use() and list_states() can be called from any thread at any time. Only one
    thread at a time may call poll() or close(). The lock protects every attribute that
    both sides read; it is never held while a model loads, runs or unloads.
    """

    def __init__(self, export_dir: str):
        """Stores the directory; poll() loads its versions."""
        self._dir = pathlib.Path(export_dir)
        self._lock = threading.Lock()
        self._serving: dict[int, Version] = {}
        self._labels: dict[str, int] = {}
        self._states: dict[int, get_model_status_pb2.ModelVersionStatus] = {}
        # Versions that did not load, with their files at that time. A version is loaded
        # again only after one of its files has changed.
        self._failed: dict[int, _FileList] = {}
        self._has_config = False
        self._has_logged_waiting = False

    @contextlib.contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[Version]:
        """Yields the version of a request, and keeps it loaded during the request.

        Raises:
          StatusError: there is no such model, version or label.
        """
        with self._lock:
            version = self._find(spec)
            version.running_requests += 1
        try:
            yield version
        finally:
            with self._lock:
                version.running_requests -= 1
                is_unused = version.is_retired and not version.running_requests
            if is_unused:
                self._unload(version)

    def _find(self, spec: model_pb2.ModelSpec) -> Version:
        if not spec.name:
            raise StatusError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        number: int | None = max(self._serving, default=None)
        choice = "the newest version"
        if spec.WhichOneof("version_choice") == "version":
            number = spec.version.value
            choice = str(number)
        elif spec.version_label:
            number, choice = self._labels.get(spec.version_label), spec.version_label
            if number is None or spec.name != messages.MODEL_NAME:
                raise StatusError(
                    Code.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {choice}",
                )
        version = None if number is None else self._serving.get(number)
        if spec.name != messages.MODEL_NAME or version is None:
            raise StatusError(
                Code.NOT_FOUND, f"Servable not found for request: {spec.name}, {choice}"
            )
        return version

    def list_states(
        self, spec: model_pb2.ModelSpec
    ) -> list[get_model_status_pb2.ModelVersionStatus]:
        """Returns the state of one version, or of all versions, the newest first.

        Versions that were unloaded are included.

        Raises:
          StatusError: there is no such model or version.
        """
        number = spec.version.value if spec.HasField("version") else None
        with self._lock:
            all_states = sorted(self._states.items(), reverse=True)
        states = [state for known, state in all_states if number in (None, known)]
        if spec.name != messages.MODEL_NAME or not states:
            versions = "any versions" if number is None else f"version {number}"
            raise StatusError(
                Code.NOT_FOUND, f"Could not find {versions} of model {spec.name}"
            )
        return states

    def poll(self) -> None:
        """Loads new versions, moves the labels to them and retires the others.

        Raises:
          ValueError: models.config cannot be read, or does not describe this model;
            nothing has changed.
        """
        config = self._read_config()
        paths = self._list_wanted(config.model_version_policy)
        self._failed = {n: files for n, files in self._failed.items() if n in paths}
        for number in sorted(paths.keys() - self._serving, reverse=True):
            self._load(number, paths[number])
        with self._lock:
            for label, number in config.version_labels.items():
                # A label moves when its new version is loaded.
                if number in self._serving or label not in self._labels:
                    self._labels[label] = number
            for label in self._labels.keys() - config.version_labels:
                del self._labels[label]
        keep = set(paths)
        if paths and self._serving and not keep & self._serving.keys():
            # None of the wanted versions is loaded: the newest one goes on serving.
            keep = {max(self._serving)}
        self._retire(self._serving.keys() - keep)
        if not paths and not self._has_logged_waiting:
            log(f"no version to serve in {self._dir}; waiting for one")
        self._has_logged_waiting = not paths

    def close(self) -> None:
        """Unloads every version as soon as no request runs on it."""
        self._retire(list(self._serving))

    def _read_config(self) -> model_server_config_pb2.ModelConfig:
        """Reads models.config; returns the defaults if there never was one."""
        path = self._dir / messages.MODELS_FILE
        if not path.exists() and not self._has_config:
            return model_server_config_pb2.ModelConfig()
        self._has_config = True
        config = model_server_config_pb2.ModelServerConfig()
        try:
            text_format.Parse(path.read_text(), config)
        except (text_format.ParseError, OSError) as error:
            raise ValueError(f"{path}: {error}") from error
        names = [model.name for model in config.model_config_list.config]
        if names != [messages.MODEL_NAME]:
            raise ValueError(
                f"{path} must describe one model, {messages.MODEL_NAME}. Received: "
                f"{names}"
            )
        return config.model_config_list.config[0]

    def _list_wanted(self, policy) -> dict[int, pathlib.Path]:
        """Returns the versions that the policy of models.config selects.

        policy: a FileSystemStoragePathSourceConfig.ServableVersionPolicy.
        """
        paths = {
            int(path.name): path
            for path in self._dir.iterdir()
            if re.fullmatch("[0-9]{1,19}", path.name) and int(path.name) < 1 << 63
        }
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return paths
        if choice == "specific":
            return {n: paths[n] for n in paths.keys() & policy.specific.versions}
        newest = sorted(paths)[-max(policy.latest.num_versions, 1) :]
        return {number: paths[number] for number in newest}

    def _load(self, number: int, path: pathlib.Path) -> None:
        files = _list_files(path)
        if self._failed.get(number) == files:
            return
        self._set_state(number, "LOADING")
        start, session, num_warmup = time.monotonic(), None, 0
        try:
            session = Session(str(path))
            if (path / messages.WARMUP_FILE).exists():
                num_warmup = replay_warmup(session, str(path))
        # A damaged model can raise any exception; the other versions go on serving.
        except Exception as error:
            if session:
                session.close()
            self._failed[number] = files
            line = to_one_line(error)
            self._set_state(number, "END", getattr(error, "code", Code.INTERNAL), line)
            log(f"version {number} is not served: {line}")
            return
        with self._lock:
            self._serving[number] = Version(number, session)
        self._set_state(number, "AVAILABLE")
        seconds = time.monotonic() - start
        log(
            f"version {number} loaded in {seconds:.1f} s, {num_warmup} requests of its "
            "warm-up answered"
        )

    def _retire(self, numbers: Iterable[int]) -> None:
        for number in sorted(numbers):
            self._set_state(number, "UNLOADING")
            with self._lock:
                version = self._serving.pop(number)
                version.is_retired = True
                is_unused = not version.running_requests
            if is_unused:
                self._unload(version)

    def _unload(self, version: Version) -> None:
        version.session.close()
        self._set_state(version.number, "END")
        log(f"version {version.number} unloaded")

    def _set_state(
        self, number: int, state: str, code: int = Code.OK, message: str = ""
    ) -> None:
        status = {"error_code": code, "error_message": message}
        with self._lock:
            # The same version may have been loaded again since.
            if state == "END" and number in self._serving:
                return
            self._states[number] = get_model_status_pb2.ModelVersionStatus(
                version=number, state=state, status=status
            )


def _list_files(path: pathlib.Path) -> _FileList:
    """Lists the files of a version; the list changes if a file changes."""
    files = []
    for file in sorted(path.rglob("*")):
        with contextlib.suppress(OSError):  # A file can disappear at any time.
            status = file.stat()
            files.append((file, status.st_size, status.st_mtime_ns))
    return files
