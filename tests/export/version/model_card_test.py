import json
import pathlib

import fakes
import pytest
import tensorflow as tf

from export.version import card_page
from pipeline.system import versions


def test_a_class_has_its_numbers_and_intervals():
    row = {
        **{"recall": 0.0, "recall_ci95": [0.0, 0.4899], "count": 4},
        **{"precision": 0.0, "precision_ci95": None, "predicted_count": 0},
    }
    assert card_page._class_row("a|b", row) == (
        "| a\\|b | 0.000 [0.000, 0.490] of 4 | no image |"
    )
    # As a run of an earlier version has it.
    earlier = {"recall": 0.25, "precision": 0.5, "count": 4}
    assert card_page._class_row("a", earlier) == "| a | 0.250 of 4 | 0.500 |"


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
    row = "| circle | 0.250 [0.050, 0.700] of 4 | 0.500 [0.100, 0.900] of 2 |"
    assert row in page
    assert "Prediction sets hold every class" not in page
    for image_class, count in audit["classes"].items():
        row = " | ".join(str(count[split]) for split in ("train", "validation", "test"))
        assert f"| {image_class} | {row} |" in page
