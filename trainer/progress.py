"""What a person sees of a run: the plan, each epoch, the outcome."""

import sys
import time
from collections.abc import Iterable, Mapping

from pipeline.dataset import DataInfo
from trainer import model
from trainer.config import Regime, TrainConfig
from trainer.loop import EpochResult
from trainer.model import Classifier
from trainer.runtime import Runtime

_SECONDS_BETWEEN_LINES = 30.0


def print_plan(
    run: Runtime,
    settings: TrainConfig,
    info: DataInfo,
    classifier: Classifier,
    *,
    weights: str,
    frozen_layers: int,
) -> None:
    """Says what is about to happen, before it takes its time."""
    strategy = run.strategy
    replicas = strategy.num_replicas_in_sync
    devices = ", ".join(strategy.extended.worker_devices)
    counts = ", ".join(f"{count} {split}" for split, count in info.counts.items())
    parameters = model.count_parameters(classifier.model.weights)
    jit = "on" if run.jit else "off (no accelerator)"
    lines = {
        "data": f"{settings.data_dir}: {counts}; {len(info.classes)} classes: "
        + ", ".join(info.classes),
        "devices": f"{type(strategy).__name__}, {replicas} replica(s): {devices}",
        "precision": f"{run.precision} ({run.reason}); XLA {jit}",
        "batch": f"{settings.batch_size} global, {settings.batch_size // replicas} a "
        f"replica; {settings.image_size} x {settings.image_size} px; augmentation: "
        + settings.augment,
        "model": f"{settings.backbone}, weights: {weights}; {parameters:,} parameters",
    }
    for name, text in lines.items():
        print(f"{name:<10}{text}")
    layers = classifier.backbone.layers
    if "finetune" in settings.regimes:
        boundary = layers[frozen_layers - 1].name if frozen_layers else "the input"
        print(
            f"{'boundary':<10}finetune freezes {frozen_layers} of the backbone's "
            f"{len(layers)} layers, up to {boundary}",
            flush=True,
        )


def print_regime(regime: Regime, classifier: Classifier) -> None:
    """Says what trains in a regime and how."""
    trainable = model.count_parameters(classifier.model.trainable_variables)
    total = model.count_parameters(classifier.model.weights)
    in_backbone = model.count_parameters(classifier.backbone.trainable_variables)
    print(
        f"\n{regime.name}: {trainable:,} parameters train ({in_backbone:,} of them in "
        f"the backbone), {total - trainable:,} frozen; {regime.epochs} epochs at "
        f"rate {regime.learning_rate:g}",
        flush=True,
    )


def follow(
    updates: Iterable[tuple[int, int, EpochResult]], *, label: str
) -> EpochResult:
    """Shows an epoch's progress as it runs; returns its last result.

    A bar on a terminal; elsewhere a plain line every half minute.
    """
    if sys.stderr.isatty():
        return _follow_with_bar(updates, label=label)
    last = time.monotonic()
    for done, steps, result in updates:
        now = time.monotonic()
        if now - last > _SECONDS_BETWEEN_LINES and done < steps:
            remaining = result.seconds / done * (steps - done)
            print(
                f"{label}: step {done}/{steps}, loss {result.loss:.4f}, accuracy "
                f"{result.accuracy:.4f}, {remaining:.0f} s to go",
                flush=True,
            )
            last = now
    return result


def _follow_with_bar(
    updates: Iterable[tuple[int, int, EpochResult]], *, label: str
) -> EpochResult:
    from tqdm import tqdm

    with tqdm(desc=label, unit="step", leave=False) as bar:
        for done, steps, result in updates:
            bar.total = steps
            bar.set_postfix(
                loss=f"{result.loss:.4f}", accuracy=f"{result.accuracy:.4f}"
            )
            bar.update(done - bar.n)
    return result


def print_epoch(line: Mapping[str, object], *, epochs: int) -> None:
    """Prints one line of metrics.jsonl for people."""
    print(
        f"{line['regime']} {line['epoch']}/{epochs}: "
        f"loss {line['train_loss']:.4f}, accuracy {line['train_accuracy']:.4f} | "
        f"validation loss {line['val_loss']:.4f}, accuracy {line['val_accuracy']:.4f}"
        f"{' (best)' if line['best'] else ''} | "
        f"{line['images_per_second']:.1f} images/s, {line['seconds']:.0f} s",
        flush=True,
    )


def print_outcome(summary: Mapping[str, object]) -> None:
    """Prints the final figures, each with its sample count and interval."""
    print()
    for name in summary["regimes"]:
        figures = summary[name]
        print(f"{name}: " + ", ".join(_figure(figures, split) for split in _SPLITS))
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
