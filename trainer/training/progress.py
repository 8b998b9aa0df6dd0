"""Prints the plan of a run and its progress."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from pipeline.loading.prepared_data import DataInfo
from pipeline.system.texts import escape_controls, list_some
from trainer.config.class_balance import ClassBalance
from trainer.config.regimes import Regime
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.models.classifier import Classifier, count_parameters
from trainer.training.position import Position

_SECONDS_BETWEEN_LINES = 30.0
# If a regime has more epochs than this, only some of those shorter than a second are
# printed.
_MAX_SHORT_EPOCHS = 20
# As many names fit on a line or two.
_MAX_CLASSES_SHOWN = 10


def print_plan(
    runtime: Runtime,
    config: TrainConfig,
    info: DataInfo,
    classifier: Classifier,
    *,
    weights_from: str,
    balance: ClassBalance,
) -> None:
    """Prints the plan of a run.

    weights_from: where the initial weights came from, as in config.json.
    """
    strategy = runtime.strategy
    replicas = strategy.num_replicas_in_sync
    # "/job:localhost/replica:0/task:0/device:CPU:0" is CPU:0.
    paths = strategy.extended.worker_devices
    devices = ", ".join(path.rpartition("device:")[2] for path in paths)
    counts = ", ".join(f"{count} {split}" for split, count in info.counts.items())
    classes = list_some(info.classes, limit=_MAX_CLASSES_SHOWN)
    parameters = count_parameters(classifier.model.weights)
    xla = "on" if runtime.jit else "off"
    lines = {
        "data": f"{config.data_dir}: {counts}; {classes}",
        "devices": f"{type(strategy).__name__}, {replicas} replica(s): {devices}",
        "precision": f"{runtime.precision} ({runtime.reason}); XLA {xla}",
        "batch": f"{config.batch_size} global, {config.batch_size // replicas} per "
        f"replica; {config.image_size} x {config.image_size} px; augmentation: "
        + config.augment,
        "model": f"{config.backbone}, weights: {weights_from}; "
        f"{parameters:,} parameters",
        "recipe": f"{config.recipe}: {_describe_recipe(config)}",
        "finetune": f"rate {config.finetune_lr:g} ({config.schedule}), batch norm "
        f"{config.finetune_batch_norm}, result {config.finetune_result}",
        "classes": _describe_balance(balance),
        "best": "the epoch and the regime with the highest "
        f"{balance.chosen_by.replace('_', ' ')} on validation",
    }
    for name, text in lines.items():
        print(f"{name:<10}{escape_controls(text)}", flush=True)
    if weights_from == "embedded" and config.source != "sample":
        print(
            "WARNING: the embedded weights were trained on drawings and know no "
            "photographs: this run shows all steps, but its classifier will not be "
            "accurate. --weights=imagenet is for photographs.",
            flush=True,
        )


def _describe_recipe(config: TrainConfig) -> str:
    """Returns the settings of the head and of all regimes, as they are in this run."""
    head = "head solved by logistic regression"
    if config.head_start == "random":
        head = f"head of {config.head_units} units trained for {config.head_epochs} "
        head += "epochs"
    views = "augmented in every epoch"
    if config.cached_views:
        views = f"{config.cached_views} augmented views computed once"
    return f"{head}; {views}; label smoothing {config.label_smoothing:g}"


def _describe_balance(balance: ClassBalance) -> str:
    """Returns how uneven the classes are, and what follows from it."""
    weights = "all images weigh the same"
    if balance.weights:
        low, high = min(balance.weights), max(balance.weights)
        weights = f"weights {low:.3g} to {high:.3g}"
    if balance.imbalance == 1:
        return f"all have equally many training images; {weights}"
    return (
        f"the largest has {balance.imbalance:.3g} times the images of the smallest; "
        f"{weights}"
    )


def print_continuation(position: Position, regimes: Sequence[Regime]) -> None:
    """Prints where a run continues."""
    regime = regimes[position.regime]
    print(
        f"continuing after step {position.total_steps} of the run: {regime.name}, "
        f"{position.epoch} of {regime.epochs} epochs and {position.step} steps done",
        flush=True,
    )


def print_regime(
    regime: Regime, classifier: Classifier, *, frozen_layers: int, images: int
) -> None:
    """Prints which layers a regime trains, for how long and at which rate.

    images: photographs that its steps read.
    """
    layers = classifier.backbone.layers
    backbone = f"no layer of the backbone's {len(layers)} is frozen"
    if frozen_layers:
        backbone = (
            f"{frozen_layers} of the backbone's {len(layers)} layers are frozen, up to "
            f"{layers[frozen_layers - 1].name}"
        )
    trained = count_parameters(classifier.model.trainable_variables)
    total = count_parameters(classifier.model.weights)
    in_backbone = count_parameters(classifier.backbone.trainable_variables)
    duration = (
        f"{regime.epochs} epochs, {regime.steps} steps, {images:,} photographs; rate "
        f"{regime.learning_rate:g}"
    )
    if not regime.epochs:
        duration = "no epochs: the head is solved already"
    print(
        f"\n{regime.name}: {trained:,} parameters train ({in_backbone:,} of them in "
        f"the backbone), {total - trained:,} do not\n{duration}\n{backbone}",
        flush=True,
    )


def print_budget(
    regime: Regime,
    *,
    planned_steps: int,
    images: int,
    seconds: float,
    end_seconds: float,
) -> None:
    """Prints what --minutes leaves of a regime.

    images: photographs that its steps read. seconds: their time. end_seconds: the time
      of what comes after the training.
    """
    print(
        f"{regime.name}: {regime.steps} of {planned_steps} steps fit into --minutes: "
        f"{images:,} photographs in about {seconds / 60:.1f} minutes; evaluation, "
        f"report and export take about {end_seconds / 60:.1f}",
        flush=True,
    )


def print_duration(regime: Regime, *, step_seconds: float) -> None:
    """Prints how long a regime will take, if that is a minute or more.

    step_seconds: time of one of its first steps.
    """
    from tqdm import tqdm

    minutes = regime.steps * step_seconds / 60
    if minutes >= 1:
        text = f"{regime.name}: about {minutes:.0f} min for its {regime.steps} steps"
        tqdm.write(f"{text}, and the time of {regime.epochs} validations")


@contextlib.contextmanager
def follow(label: str, *, images: int) -> Iterator[Callable]:
    """Yields show(position, images=done), which shows the progress of an epoch.

    A terminal shows a bar. Elsewhere a line is printed every half minute.

    label: the beginning of the bar or line. images: number of images of the epoch.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=label, total=images, unit="images", leave=False) as bar:

            def show_bar(position: Position, *, images: int) -> None:
                loss, accuracy = _format_means(position, images)
                bar.set_postfix(loss=loss, accuracy=accuracy, refresh=False)
                bar.update(images - bar.n)

            yield show_bar
        return
    total = images
    last = time.monotonic()

    def show_line(position: Position, *, images: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _SECONDS_BETWEEN_LINES and images < total:
            rate = images / position.seconds
            loss, accuracy = _format_means(position, images)
            print(
                f"{label}: {images}/{total} images, loss {loss}, accuracy {accuracy}, "
                f"{rate:.1f} images/s, {(total - images) / rate:.0f} s to go",
                flush=True,
            )
            last = now

    yield show_line


def _format_means(position: Position, images: int) -> tuple[str, str]:
    return f"{position.loss_sum / images:.4f}", f"{position.correct_sum / images:.4f}"


def print_epoch(line: EpochMetrics, *, epochs: int) -> None:
    """Prints the figures of one epoch.

    If a regime has more than 20 epochs, those shorter than a second are printed only
    sometimes: every tenth, or every tenth part of more than a hundred, and the last.

    epochs: number of epochs of the regime.
    """
    is_short = epochs > _MAX_SHORT_EPOCHS and line["seconds"] < 1
    if is_short and line["epoch"] % max(10, epochs // 10) and line["epoch"] != epochs:
        return
    print(
        f"{line['regime']} {line['epoch']}/{epochs}: "
        f"loss {line['train_loss']:.4f}, accuracy {line['train_accuracy']:.4f} | "
        f"{format_validation(line)}"
        f"{' (best)' if line['best'] else ''} | "
        f"{line['images_per_second']:.0f} images/s, {line['seconds']:.0f} s"
        f"{_format_time_to_go(line, epochs)}",
        flush=True,
    )


def _format_time_to_go(line: EpochMetrics, epochs: int) -> str:
    """Returns, after the first epoch, how long the regime will take."""
    minutes = (epochs - 1) * (line["seconds"] + line["val_seconds"]) / 60
    if line["epoch"] > 1 or minutes < 1:
        return ""
    return f", about {minutes:.0f} min to go"


def format_validation(line: EpochMetrics) -> str:
    """Returns the figures of an epoch on validation as text."""
    return (
        f"validation loss {line['val_loss']:.4f}, "
        f"accuracy {line['val_accuracy']:.4f}, "
        f"balanced {line['val_balanced_accuracy']:.4f}"
    )


def print_average(
    regime: Regime, chosen_by: str, *, accuracies: Mapping[str, float], chosen: str
) -> None:
    """Prints the accuracy on validation of each candidate for the result of a regime.

    chosen_by: name of the accuracy; see ClassBalance.
    accuracies: candidate -> its accuracy. chosen: the candidate that is used.
    """
    shown = ", ".join(f"{name} {value:.4f}" for name, value in accuracies.items())
    print(
        f"{regime.name}: validation {chosen_by.replace('_', ' ')} of {shown}: {chosen} "
        "is used",
        flush=True,
    )
