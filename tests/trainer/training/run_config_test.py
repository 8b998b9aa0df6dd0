import json

import pytest

from pipeline.inspection.reencoding import StoredForm
from trainer.config.run_files import CONFIG_FILE, CONFIG_FORMAT
from trainer.training import run_config

DATA = run_config.DataFingerprint(
    classes=["daisy", "rose", "tulip"],
    counts={"train": 80, "validation": 10, "test": 10},
    splits_sha256="0" * 64,
    background="white",
    sample_bits=None,
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
        (
            {"background": "black", "sample_bits": 12},
            "data with background=black and sample_bits=12 instead of white and None. ",
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


def test_a_run_of_an_earlier_version_does_not_know_the_background(tmp_path):
    known = ("classes", "counts", "splits_sha256")
    content = {"format": CONFIG_FORMAT, "data": {key: DATA[key] for key in known}}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    run_config.check_same_data(tmp_path, DATA)
    assert run_config.read_stored_form(tmp_path) == StoredForm()


def test_a_run_knows_how_its_images_were_stored(model_dir):
    content = json.loads((model_dir / CONFIG_FILE).read_text())
    content["data"] |= {"background": "mean", "sample_bits": 12}
    (model_dir / CONFIG_FILE).write_text(json.dumps(content))
    form = StoredForm(background="mean", sample_bits=12)
    assert run_config.read_stored_form(model_dir) == form
