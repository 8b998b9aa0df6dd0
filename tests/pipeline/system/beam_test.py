import dataclasses

import fakes
import pytest

from pipeline import prepare
from pipeline.loading import prepared_data
from pipeline.system.beam import BeamRunner

pytestmark = pytest.mark.filterwarnings("ignore")  # Beam's own, of many kinds


def _examples(data_dir):
    return {
        split: [
            (example["name"], example["label"], example["image_bytes"])
            for example in prepared_data.read_records(
                str(data_dir), split
            ).dataset.as_numpy_iterator()
        ]
        for split in ("train", "validation", "test")
    }


@pytest.mark.slow
def test_beam_and_one_process_give_the_same_examples_and_findings(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=30)
    (folder / "circle" / "bad.jpg").write_text("no image")
    direct = BeamRunner("DirectRunner", ("--direct_num_workers=2",))
    for name, chosen in (("beam", direct), ("alone", None)):
        prepare.prepare(
            str(folder), str(tmp_path / name), num_shards=2, beam_runner=chosen
        )
    beam, alone = tmp_path / "beam", tmp_path / "alone"
    assert _examples(beam) == _examples(alone)
    for name in ("audit.json", "audit.html", "splits.csv", "features.json"):
        assert (beam / name).read_text() == (alone / name).read_text()
    names = [path.name for path in beam.glob("*.tfrecord*")]
    assert sorted(names) == sorted(path.name for path in alone.glob("*.tfrecord*"))


def test_an_engine_says_what_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "apache_beam.options", None)
    chosen = BeamRunner("FlinkRunner")
    with pytest.raises(ValueError, match="Received: --beam_runner=FlinkRunner"):
        chosen.pipeline_options()
    assert dataclasses.asdict(chosen) == {"runner": "FlinkRunner", "options": ()}
