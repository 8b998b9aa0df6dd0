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
            pool.map(lambda c: publish.publish(c, base, keep=None), candidates)
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
    versions = [int(publish.publish(one, base, keep=2).name) for one in candidates]
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
    newest = int(publish.publish(again, base, keep=0).name)
    assert newest > versions[3]
    # A server that has not read the new labels still finds the version of the old ones.
    assert seen == [([newest], [versions[1], newest])]
    assert publish.list_versions(base) == [newest]
