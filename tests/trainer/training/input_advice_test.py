import dataclasses

import pytest
from absl import flags

from trainer.config.flags import define_flags, from_flags
from trainer.training.input_advice import describe_wait

LINE = {"input_wait": 0.5, "seconds": 60.0, "images_per_second": 400.0}


def _config(**changes):
    values = flags.FlagValues()
    define_flags(values)
    values(["trainer", "--source=sample", "--model_dir=RUN"])
    return dataclasses.replace(from_flags(values), image_size=224, **changes)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {},
            [
                "50% of the epoch was spent waiting for input: 2 cores decode 400 "
                "images/s, and the device could train 800.",
                "add --cache=disk, which keeps 1.5 GB of decoded images",
                "or use about 4 cores",
            ],
        ),
        ({"cache": "off"}, ["add --cache=disk"]),
        ({"cache_gb": 1.4}, ["To train faster, use about 4 cores"]),
        ({"cache": "disk"}, ["the disk delivers 400", "--cache_dir on a faster disk"]),
        (
            {"data_service": "grpc://host:1"},
            ["the data service delivers 400", "2.0 times as many workers"],
        ),
    ],
    ids=str,
)
def test_the_advice_has_the_numbers_of_the_run(changes, parts):
    found = describe_wait(LINE, _config(**changes), cores=2, num_images=10_000)
    for part in parts:
        assert part in found
    assert ("--cache=disk" in found) == ("--cache=disk" in "".join(parts))


@pytest.mark.parametrize(
    "changes", [{"input_wait": 0.09}, {"input_wait": None}, {"seconds": 9.0}], ids=str
)
def test_a_short_wait_needs_no_advice(changes):
    line = LINE | changes
    assert describe_wait(line, _config(), cores=2, num_images=10_000) is None


def test_one_core_decodes():
    found = describe_wait(LINE, _config(), cores=1, num_images=10_000)
    assert "1 core decodes 400 images/s" in found
