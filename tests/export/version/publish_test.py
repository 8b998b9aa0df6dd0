import concurrent.futures
import re

import pytest

from export.version import publish, server_files


def _candidates(base, count):
    base.mkdir()
    for index in range(count):
        candidate = base / f".next.tmp-{index}" / "saved_model"
        candidate.mkdir(parents=True)
        (candidate / "saved_model.pb").write_text(str(index))
        yield candidate


def test_exporters_at_once_get_versions_of_their_own(tmp_path):
    base = tmp_path / "export"
    candidates = list(_candidates(base, 12))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        versions = list(
            pool.map(
                lambda c: publish.publish(c, base, keep=None, load_seconds=0),
                candidates,
            )
        )
    assert len(set(versions)) == 12
    found = {(version / "saved_model.pb").read_text() for version in versions}
    assert found == {str(index) for index in range(12)}
    newest = max(int(version.name) for version in versions)
    assert f'key: "stable" value: {newest}' in (base / "models.config").read_text()


def test_keep_and_roll_back(tmp_path, monkeypatch):
    base = tmp_path / "export"
    seen = []

    def look(seconds):
        """What a server that now reads the labels finds."""
        assert seconds > server_files.CONFIG_POLL_SECONDS
        text = (base / "models.config").read_text()
        labels = [int(number) for number in re.findall(r'" value: (\d+)', text)]
        seen.append((labels, publish.list_versions(base)))

    monkeypatch.setattr(publish.time, "sleep", look)
    candidates = _candidates(base, 4)
    versions = [
        int(publish.publish(one, base, keep=2, load_seconds=0).name)
        for one in candidates
    ]
    assert publish.list_versions(base) == versions[1:]
    assert publish.roll_back(str(base)) == str(base / str(versions[2]))
    assert publish.list_versions(base) == versions[1:3]
    config_text = (base / "models.config").read_text()
    assert f'key: "stable" value: {versions[2]}' in config_text
    assert f'key: "previous" value: {versions[1]}' in config_text
    # No label names a version that is to go, or that is not loaded yet.
    assert seen == [([versions[2]], versions[1:])]
    publish.roll_back(str(base))
    with pytest.raises(ValueError, match="--rollback needs two versions"):
        publish.roll_back(str(base))
    assert publish.list_versions(base) == versions[1:2]
    again = next(_candidates(tmp_path / "other", 1))
    seen.clear()
    newest = int(publish.publish(again, base, keep=0, load_seconds=0).name)
    assert newest > versions[3]
    # A server that has not read the new labels still finds the version of the old ones.
    assert seen == [([newest], [versions[1], newest])]
    assert publish.list_versions(base) == [newest]


class SimulatedServer:
    """What TensorFlow Serving does with an export directory, by its sources.

    It looks for the two newest versions every second, loads a new one, and unloads
    another when that is done. It reads the labels every five seconds; it refuses them
    all if one moves to a version that is not loaded.
    """

    def __init__(self, base, *, load_ticks: int, config_phase: int):
        self.base = base
        self.load_ticks = load_ticks
        self.config_phase = config_phase
        self.loaded = set(publish.list_versions(base))
        self.labels = self._read_labels()
        self.loading: dict[int, int] = {}
        self.tick = 0
        self.gone: list[tuple[int, str]] = []

    def _read_labels(self) -> dict[str, int]:
        text = (self.base / "models.config").read_text()
        pairs = re.findall(r'key: "(.*)" value: (\d+)', text)
        return {name: int(number) for name, number in pairs}

    def run(self, seconds: float) -> None:
        for _ in range(round(10 * seconds)):
            self.tick += 1
            self._run_tick()
            if self.labels["stable"] not in self.loaded:
                self.gone.append((self.tick, "stable"))

    def _run_tick(self) -> None:
        wanted = set(publish.list_versions(self.base)[-2:])
        if self.tick % 10 == 0:
            for version in wanted - self.loaded - self.loading.keys():
                self.loading[version] = self.tick + self.load_ticks
        for version, ready in list(self.loading.items()):
            if self.tick >= ready:
                del self.loading[version]
                self.loaded.add(version)
        if self.tick % 10 == 0 and wanted & self.loaded:
            self.loaded &= wanted
        if (self.tick - self.config_phase) % 50 == 0:
            labels = self._read_labels()
            moved = {labels[name] for name in labels.keys() & self.labels.keys()}
            if moved - set(self.labels.values()) <= self.loaded:
                self.labels = labels


@pytest.mark.parametrize("load_seconds", [0.5, 3, 4.5, 12])
def test_stable_names_a_loaded_version_all_the_time(
    tmp_path, monkeypatch, load_seconds
):
    for config_phase in range(0, 50, 7):
        base = tmp_path / f"export-{config_phase}"
        candidates = _candidates(base, 2)
        first = publish.publish(next(candidates), base, keep=0, load_seconds=0)
        server = SimulatedServer(
            base, load_ticks=round(10 * load_seconds), config_phase=config_phase
        )
        assert server.labels == {"stable": int(first.name)}
        with monkeypatch.context() as patched:
            patched.setattr(publish.time, "sleep", server.run)
            second = publish.publish(
                next(candidates), base, keep=0, load_seconds=load_seconds
            )
        assert publish.list_versions(base) == [int(second.name)]
        server.run(20)
        assert server.gone == []
        assert server.labels == {"stable": int(second.name)}
        assert server.loaded == {int(second.name)}
