"""Which versions of an export are served, and how they come and go."""

import contextlib
import dataclasses
import os
import pathlib
import threading
import time
from collections.abc import Iterator

from google.protobuf import text_format

from export import protos, session
from export.protos import get_model_status_pb2, model_pb2, model_server_config_pb2

INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, INTERNAL = 3, 5, 9, 13

_State = get_model_status_pb2.ModelVersionStatus.State
_MAX_LINE_LENGTH = 400  # TensorFlow's messages may hold a whole graph
_MAX_VERSION = (1 << 63) - 1


@dataclasses.dataclass
class Version:
    """A loaded version; requests is how many run on it now."""

    number: int
    session: session.Session
    requests: int = 0
    leaving: bool = False


def one_line(error: BaseException) -> str:
    """What went wrong, on one line of bearable length."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _MAX_LINE_LENGTH else f"{line[:_MAX_LINE_LENGTH]}..."


class Versions:
    """The versions of one export directory; every method may be called by any thread.

    poll() alone loads and retires, so one thread at a time calls it.
    """

    def __init__(self, export_dir: str):
        """Reads EXPORT/models.config, if there is one; loads nothing yet.

        Raises:
          ValueError: it does not describe this model.
        """
        self._dir = pathlib.Path(export_dir)
        self._lock = threading.Lock()
        self._serving: dict[int, Version] = {}
        self._statuses: dict[int, get_model_status_pb2.ModelVersionStatus] = {}
        self._failed: dict[int, list] = {}
        self._labels: dict[str, int] = {}
        self._complaint = None
        self._waits = False
        self._config_text = None
        self._config = model_server_config_pb2.ModelConfig()
        self._read_config()

    @contextlib.contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[Version]:
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

    def _find(self, spec: model_pb2.ModelSpec) -> Version:
        if not spec.name:
            raise session.StatusError(
                INVALID_ARGUMENT, "ModelSpec has no name specified."
            )
        choice = spec.WhichOneof("version_choice")
        number = spec.version.value if choice == "version" else None
        if choice == "version_label":
            number = self._labels.get(spec.version_label)
            if spec.name != protos.MODEL_NAME or number is None:
                raise session.StatusError(
                    INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
        wanted = max(self._serving, default=None) if number is None else number
        if spec.name != protos.MODEL_NAME or wanted not in self._serving:
            asked = f"Latest({spec.name})"
            if number is not None:
                asked = f"Specific({spec.name}, {number})"
            raise session.StatusError(
                NOT_FOUND, f"Servable not found for request: {asked}"
            )
        return self._serving[wanted]

    def statuses(
        self, spec: model_pb2.ModelSpec
    ) -> list[get_model_status_pb2.ModelVersionStatus]:
        """The state of one version, or of all that there ever were, newest first.

        A label is not looked at, as in TensorFlow Serving.

        Raises:
          StatusError: there is no such model or version.
        """
        with self._lock:
            known = self._statuses if spec.name == protos.MODEL_NAME else {}
            if spec.WhichOneof("version_choice") == "version":
                number = spec.version.value
                if number not in known:
                    raise session.StatusError(
                        NOT_FOUND,
                        f"Could not find version {number} of model {spec.name}",
                    )
                return [known[number]]
            if not known:
                raise session.StatusError(
                    NOT_FOUND, f"Could not find any versions of model {spec.name}"
                )
            return [known[number] for number in sorted(known, reverse=True)]

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Takes another policy and other labels, until models.config changes again.

        Raises:
          StatusError: the configuration is none of this model, or moves a label to a
            version that is not served yet.
        """
        try:
            chosen = _of_this_model(config)
        except ValueError as error:
            raise session.StatusError(INVALID_ARGUMENT, str(error)) from error
        with self._lock:
            for label, number in chosen.version_labels.items():
                moved = self._labels.get(label, number) != number
                if moved and number not in self._serving:
                    raise session.StatusError(
                        FAILED_PRECONDITION,
                        f"A label moves to a version that is available. Received: "
                        f"{label} for version {number}, which is not",
                    )
            self._config = chosen
        self._assign_labels()

    def poll(self) -> None:
        """Loads what is new and retires what is no longer asked for.

        As in TensorFlow Serving, the newest is loaded first, and the last version that
        serves leaves only when another is there to follow it, unless none is asked for.
        """
        try:
            self._read_config()
            wanted = self._wanted()
        except (ValueError, OSError) as error:
            line = f"{one_line(error)}; all stays as it is"
            if line != self._complaint:
                _say(line)
            self._complaint = line
            return
        self._complaint = None
        for number in set(self._failed) - set(wanted):
            del self._failed[number]
        for number in sorted(set(wanted) - set(self._serving), reverse=True):
            self._load(number, wanted[number])
            # Before a version leaves, what is labelled with it moves on.
            self._assign_labels()
            self._retire(set(wanted))
        self._retire(set(wanted))
        self._assign_labels()
        if not wanted and not self._waits:
            _say(f"no version to serve in {self._dir}; waiting for one")
        self._waits = not wanted

    def close(self) -> None:
        """Unloads every version as soon as no request runs on it."""
        self._retire(set())

    def _read_config(self) -> None:
        path = self._dir / protos.MODELS_FILE
        text = path.read_text() if path.exists() else None
        if text == self._config_text:
            return
        config = model_server_config_pb2.ModelConfig()
        # An empty file is one that somebody is writing.
        if text is not None:
            try:
                config = _of_this_model(
                    text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
                )
            except (text_format.ParseError, ValueError) as error:
                raise ValueError(f"{path}: {error}") from error
        self._config, self._config_text = config, text

    def _wanted(self) -> dict[int, pathlib.Path]:
        """Version -> directory, of those there are and the policy asks for."""
        # "01" and "1" are one version, and the last of them counts.
        found = {
            int(name): self._dir / name
            for name in sorted(os.listdir(self._dir))
            if name.isascii() and name.isdigit() and int(name) <= _MAX_VERSION
        }
        policy = self._config.model_version_policy
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return found
        if choice == "specific":
            return {k: v for k, v in found.items() if k in policy.specific.versions}
        newest = sorted(found)[-max(policy.latest.num_versions, 1) :]
        return {number: found[number] for number in newest}

    def _load(self, number: int, path: pathlib.Path) -> None:
        content = _content(path)
        if self._failed.get(number) == content:
            return
        self._set_status(number, _State.LOADING)
        start = time.monotonic()
        loaded, warmed_up = None, 0
        try:
            loaded = session.Session(str(path))
            if (path / session.WARMUP_FILE).exists():
                warmed_up = session.replay_warmup(loaded, str(path))
        # Whatever a damaged model raises, the other versions go on serving.
        except Exception as error:
            if loaded:
                loaded.close()
            self._failed[number] = content
            code = getattr(error, "code", INTERNAL)
            self._set_status(number, _State.END, code, one_line(error))
            _say(f"version {number} is not served: {one_line(error)}")
            return
        self._failed.pop(number, None)
        with self._lock:
            self._serving[number] = Version(number, loaded)
        self._set_status(number, _State.AVAILABLE)
        seconds = time.monotonic() - start
        _say(
            f"version {number} loaded in {seconds:.1f} s, {warmed_up} requests of its "
            "warm-up answered"
        )

    def _retire(self, wanted: set[int]) -> None:
        with self._lock:
            leaving = sorted(set(self._serving) - wanted)
            if wanted and not wanted & set(self._serving):
                leaving = leaving[:-1]
            versions = [self._serving.pop(number) for number in leaving]
            for version in versions:
                version.leaving = True
            unused = [version for version in versions if not version.requests]
        for version in versions:
            self._set_status(version.number, _State.UNLOADING)
        for version in unused:
            self._unload(version)

    def _unload(self, version: Version) -> None:
        version.session.close()
        # It may have come back meanwhile.
        if version.number not in self._serving:
            self._set_status(version.number, _State.END)
        _say(f"version {version.number} unloaded")

    def _assign_labels(self) -> None:
        """A label moves when the version it moves to is there."""
        with self._lock:
            self._labels = {
                label: number
                if number in self._serving
                else self._labels.get(label, number)
                for label, number in self._config.version_labels.items()
            }

    def _set_status(
        self, number: int, state: int, code: int = 0, message: str = ""
    ) -> None:
        status = get_model_status_pb2.ModelVersionStatus(version=number, state=state)
        status.status.error_code = code
        status.status.error_message = message
        with self._lock:
            self._statuses[number] = status


def _of_this_model(
    config: model_server_config_pb2.ModelServerConfig,
) -> model_server_config_pb2.ModelConfig:
    """The part about the one model that is served.

    Its base_path is one in a container and is not looked at.
    """
    models = config.model_config_list.config
    chosen = [model for model in models if model.name == protos.MODEL_NAME]
    if len(chosen) != 1 or len(models) != 1:
        names = ", ".join(model.name for model in models) or "none"
        raise ValueError(
            f"A model_config_list describes one model, {protos.MODEL_NAME}. Received: "
            f"{names}"
        )
    return chosen[0]


def _content(path: pathlib.Path) -> list:
    """Differs when a file of the version does; nothing is read."""
    found = []
    for file in sorted(path.rglob("*")):
        with contextlib.suppress(OSError):  # it may go while we look
            status = file.stat()
            found.append((str(file), status.st_size, status.st_mtime_ns))
    return found


def _say(line: str) -> None:
    print(line, flush=True)
