"""Describes what makes the input of a run slow, and which flag helps."""

import math

from pipeline.system import parallel
from trainer.config.train_config import TrainConfig
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.training.regime_run import RegimeRun

# A shorter wait needs no advice. In a short epoch, the start of the input takes a large
# part of the wait.
_MIN_WAIT = 0.1
_MIN_SECONDS = 10.0


def advise_on_input(run: RegimeRun, line: EpochMetrics) -> str | None:
    """Returns advice for the user if the epoch waited for its input, else None.

    line: the figures of the epoch.
    """
    if run.inputs.train_features is not None:
        return None
    return describe_wait(
        line,
        run.config,
        cores=parallel.count_cores(),
        num_images=run.train_images.count,
    )


def describe_wait(
    line: EpochMetrics, config: TrainConfig, *, cores: int, num_images: int
) -> str | None:
    """Returns advice for a run that reads images; None if it hardly waited.

    Args:
      line: the figures of the epoch.
      config: its --cache and --data_service decide which flag helps.
      cores: number of cores that this process may use.
      num_images: number of training images.
    """
    wait = line["input_wait"]
    if wait is None or wait < _MIN_WAIT or line["seconds"] < _MIN_SECONDS:
        return None
    delivered = line["images_per_second"]
    possible = delivered / (1 - wait)
    times = possible / delivered
    decoded_gb = num_images * config.image_size**2 * 3 / 1e9
    if config.data_service is not None:
        source = "the data service delivers"
        advice = f"start {times:.1f} times as many workers of the service"
    elif config.cache == "disk":
        source = "the disk delivers"
        advice = "put --cache_dir on a faster disk, or use a machine with more memory"
    else:
        source = f"{cores} core{'s' * (cores != 1)} decode{'s' * (cores == 1)}"
        advice = (
            f"use about {math.ceil(cores * times)} cores, or --data_service with "
            "other machines"
        )
        if decoded_gb <= config.cache_gb:
            advice = (
                f"add --cache=disk, which keeps {decoded_gb:.1f} GB of decoded images, "
                f"or {advice}"
            )
    return (
        f"{wait:.0%} of the epoch was spent waiting for input: {source} "
        f"{delivered:.0f} images/s, and the device could train {possible:.0f}. "
        f"To train faster, {advice}."
    )
