import json
import pathlib

import fakes
import pytest
import tensorflow as tf

from pipeline.system import versions


@pytest.mark.slow
def test_labels_and_model_card_describe_the_version(exported, data_dir):
    assert (exported / "labels.txt").read_text() == "circle\nsquare\nstripe\n"
    card = json.loads((exported / "model_card.json").read_text())
    audit = json.loads(pathlib.Path(data_dir, "audit.json").read_text())
    assert card["classes"] == list(fakes.CLASSES)
    assert card["data"]["images_per_class"] == audit["classes"]
    assert sum(card["data"]["images"].values()) == 99
    assert card["metrics"]["test"]["ci95"] == [0.3, 0.7]
    assert card["metrics"]["validation"]["count"] == 12
    assert card["preprocessing"]["image_size"] == 32
    assert card["versions"]["tensorflow"] == tf.__version__
    assert card["format"] == 1
    # Somebody may commit between the export and this line.
    assert card["project"]["version"] == versions.PROJECT_VERSION
    assert set(card["project"]) == {"version", "commit"}
    assert set(card["licence"]) == {"model", "initial_weights", "data"}
    page = (exported / "model_card.md").read_text()
    assert "| test | 12 | 0.500 [0.300, 0.700] | not measured | not measured |" in page
    assert "| circle | 0.500 | 0.250 | 4 |" in page
    for image_class, count in audit["classes"].items():
        row = " | ".join(str(count[split]) for split in ("train", "validation", "test"))
        assert f"| {image_class} | {row} |" in page
