import json

import pytest

from trainer.config.run_files import CONFIG_FILE, CONFIG_FORMAT
from trainer.training import run_config

DATA = run_config.DataFingerprint(
    classes=["daisy", "rose", "tulip"],
    counts={"train": 80, "validation": 10, "test": 10},
    splits_sha256="0" * 64,
)


@pytest.fixture
def model_dir(tmp_path):
    content = {"format": CONFIG_FORMAT, "data": DATA}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    return tmp_path


def test_the_same_data_in_another_directory_are_accepted(model_dir):
    run_config.check_same_data(model_dir, DATA)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (
            {"classes": ["daisy", "rose", "sunflower", "aster"]},
            "data with other classes: new 'aster', 'sunflower'; missing 'tulip'. ",
        ),
        (
            {"classes": ["daisy", "rose", "tulip", *"edcba"]},
            "data with other classes: new 'a', 'b', 'c' and 2 more. ",
        ),
        (
            {"classes": ["rose", "daisy", "tulip"]},
            "data with the same classes in another order. ",
        ),
        (
            {"counts": {"train": 79, "validation": 11, "test": 10}},
            "data with other numbers of images: train has 79 instead of 80, "
            "validation has 11 instead of 10. ",
        ),
        (
            {"splits_sha256": "1" * 64},
            "data with the same classes and numbers of images, but with other images "
            "or splits (splits.csv differs). ",
        ),
    ],
)
def test_other_data_are_one_line_that_names_the_first_differences(
    model_dir, changed, difference
):
    with pytest.raises(ValueError, match="was started on other data") as caught:
        run_config.check_same_data(model_dir, {**DATA, **changed})
    message = str(caught.value)
    assert f"Received: {difference}Name the --data_dir" in message
    assert "{" not in message
    assert "\n" not in message
