"""What a person sees of a run: the plan, each epoch, the outcome."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from pipeline.loading.prepared_data import DataInfo
from trainer.config.regimes import Regime
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.models.classifier import Classifier, count_parameters
from trainer.training.checkpoints import Position

_SECONDS_BETWEEN_LINES = 30.0


def print_plan(
    runtime: Runtime,
    config: TrainConfig,
    info: DataInfo,
    classifier: Classifier,
    *,
    weights: str,
) -> None:
    """Says what is about to happen, before it takes its time."""
    strategy = runtime.strategy
    replicas = strategy.num_replicas_in_sync
    devices = ", ".join(strategy.extended.worker_devices)
    counts = ", ".join(f"{count} {split}" for split, count in info.counts.items())
    parameters = count_parameters(classifier.model.weights)
    jit = "on" if runtime.jit else "off"
    lines = {
        "data": f"{config.data_dir}: {counts}; {len(info.classes)} classes: "
        + ", ".join(info.classes),
        "devices": f"{type(strategy).__name__}, {replicas} replica(s): {devices}",
        "precision": f"{runtime.precision} ({runtime.reason}); XLA {jit}",
        "batch": f"{config.batch_size} global, {config.batch_size // replicas} a "
        f"replica; {config.image_size} x {config.image_size} px; augmentation: "
        + config.augment,
        "model": f"{config.backbone}, weights: {weights}; {parameters:,} parameters",
    }
    for name, text in lines.items():
        print(f"{name:<10}{text}", flush=True)


def print_continuation(position: Position, regime: Regime) -> None:
    """Says where a run goes on."""
    print(
        f"continuing after step {position.total_steps} of the run: {regime.name}, "
        f"{position.epoch} of {regime.epochs} epochs and {position.step} steps done",
        flush=True,
    )


def print_regime(regime: Regime, classifier: Classifier, *, frozen_layers: int) -> None:
    """Says what trains in a regime and how."""
    layers = classifier.backbone.layers
    boundary = layers[frozen_layers - 1].name if frozen_layers else "the input"
    trainable = count_parameters(classifier.model.trainable_variables)
    total = count_parameters(classifier.model.weights)
    in_backbone = count_parameters(classifier.backbone.trainable_variables)
    print(
        f"\n{regime.name}: {trainable:,} parameters train ({in_backbone:,} of them in "
        f"the backbone), {total - trainable:,} frozen; {regime.epochs} epochs at "
        f"rate {regime.learning_rate:g}\n{frozen_layers} of the backbone's "
        f"{len(layers)} layers are frozen, up to {boundary}",
        flush=True,
    )


@contextlib.contextmanager
def follow(label: str, *, images: int) -> Iterator[Callable]:
    """Gives show(position, images=done), which shows an epoch's progress.

    A bar on a terminal; elsewhere a plain line every half minute.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=label, total=images, unit="images", leave=False) as bar:

            def show_bar(position: Position, *, images: int) -> None:
                loss, accuracy = _means(position, images)
                bar.set_postfix(loss=loss, accuracy=accuracy, refresh=False)
                bar.update(images - bar.n)

            yield show_bar
        return
    last = time.monotonic()

    def show_line(position: Position, *, images: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _SECONDS_BETWEEN_LINES and images < total:
            rate = images / position.seconds
            loss, accuracy = _means(position, images)
            print(
                f"{label}: {images}/{total} images, loss {loss}, accuracy {accuracy}, "
                f"{rate:.1f} images/s, {(total - images) / rate:.0f} s to go",
                flush=True,
            )
            last = now

    total = images
    yield show_line


def _means(position: Position, images: int) -> tuple[str, str]:
    return f"{position.loss_sum / images:.4f}", f"{position.correct_sum / images:.4f}"


def print_epoch(line: Mapping[str, object], *, epochs: int) -> None:
    """Prints one line of metrics.jsonl for people."""
    waiting = ""
    if line["input_wait"] is not None:
        waiting = f"{line['input_wait']:.0%} waiting for input, "
    print(
        f"{line['regime']} {line['epoch']}/{epochs}: "
        f"loss {line['train_loss']:.4f}, accuracy {line['train_accuracy']:.4f} | "
        f"validation loss {line['val_loss']:.4f}, accuracy {line['val_accuracy']:.4f}"
        f"{' (best)' if line['best'] else ''} | "
        f"{line['images_per_second']:.1f} images/s, {waiting}{line['seconds']:.0f} s",
        flush=True,
    )


def print_outcome(summary: Mapping[str, object], *, precision: str) -> None:
    """Prints the final figures, each with its sample count and interval.

    precision: that the epochs computed in.
    """
    print()
    if precision != "float32":
        print(f"evaluated in float32, where the epochs computed in {precision}:")
    for name in summary["regimes"]:
        figures = summary[name]
        print(
            f"{name}: "
            + ", ".join(_figure(figures, split) for split in _SPLITS)
            + ("" if figures["best_epoch"] else "; no epoch beat what it started from")
        )
    print(
        f"best on validation: {summary['best_regime']}; it is what will be exported",
        flush=True,
    )


_SPLITS = (("validation", "val"), ("test", "test"))


def _figure(figures: Mapping[str, object], split: tuple[str, str]) -> str:
    name, key = split
    low, high = figures[f"{key}_ci95"]
    return (
        f"{name} accuracy {figures[f'{key}_accuracy']:.4f} "
        f"[{low:.4f}, {high:.4f}] on {figures[f'{key}_count']}"
    )
