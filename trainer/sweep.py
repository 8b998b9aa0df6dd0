"""search_head(): heads compared on cached features, where each takes but a moment."""

import csv
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline import dataset, splits
from pipeline.dataset import Records
from trainer import evaluation, features, frontier, loop, metrics, model, stages
from trainer.config import POOLINGS, TrainConfig, make_regimes
from trainer.features import Crossing, View
from trainer.interrupt import Requests
from trainer.model import Classifier
from trainer.runtime import Runtime

# The grid; what the flags say is added to it.
_RATES = (0.003, 0.01, 0.03, 0.1)
_UNITS = (128, 512)
_DROPOUTS = (0.0, 0.3, 0.5)

_SHOWN = 10
_EVALUATED_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Head:
    """One point of the grid; the fields are the flags of the same names."""

    head_lr: float
    head_units: int
    dropout: float
    pooling: str
    cached_views: int


@dataclasses.dataclass(frozen=True)
class _Split:
    """What one pooling makes of a split.

    views: float arrays [N, D], augmented, which the epochs take in turn; of validation
      for folds alone.
    plain: [N, D], of the images as they are; of train for folds alone.
    """

    views: Sequence[np.ndarray] | None
    plain: np.ndarray | None
    labels: np.ndarray


def search_head(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    num_classes: int,
    requests: Requests,
) -> dict:
    """Does what --sweep and --folds ask for; the test split is not looked at.

    The sweep trains every head of the grid with the head regime's epochs, batches and
    schedule, without --mix, and ranks them as the regime ranks its epochs.

    Args:
      classifier: its backbone is used as it is.

    Returns:
      "chosen": flags -> values of the best head; "sweep": the grid, best first;
      "folds": the accuracy over folds. Each only where it was asked for. Of several
      workers the chief alone gets anything.

    Raises:
      interrupt.Stopped: asked to, through `requests`.
    """
    start = time.monotonic()
    given = Head(
        settings.head_lr,
        settings.head_units,
        settings.dropout,
        settings.pooling,
        max(1, settings.cached_views),
    )
    poolings = POOLINGS if settings.sweep == "head" else (settings.pooling,)
    train, validation = _cross(
        run, settings, model_dir, classifier, num_classes, requests, poolings
    )
    if not run.is_chief:
        return {}
    found, head = {}, given
    if settings.sweep == "head":
        ranked = _sweep(settings, given, train, validation, num_classes)
        head = Head(**{name: ranked[0][name] for name in dataclasses.asdict(given)})
        chosen = dataclasses.asdict(head)
        if not settings.cached_views:
            del chosen["cached_views"]  # the run computes every epoch's view itself
        # JSON has no infinity.
        rows = [
            row | ({} if np.isfinite(row["val_loss"]) else {"val_loss": None})
            for row in ranked
        ]
        found |= {"sweep": rows, "chosen": chosen}
        _print_sweep(settings, given, ranked, len(validation[head.pooling].labels))
        print(f"the sweep took {time.monotonic() - start:.0f} s\n", flush=True)
    if settings.folds:
        found["folds"] = _cross_validate(
            settings, head, train[head.pooling], validation[head.pooling], num_classes
        )
        _print_folds(found["folds"])
    return found


def _cross(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    num_classes: int,
    requests: Requests,
    poolings: Sequence[str],
) -> tuple[dict[str, _Split], dict[str, _Split]]:
    """Pooling -> what it makes of train, and of validation, in one pass each."""
    plan = stages.plan_stages(classifier, make_regimes(settings))
    backbone = classifier.backbone
    model.freeze(backbone, len(backbone.layers))
    with run.strategy.scope():
        frontiers = [
            frontier.find_frontier(
                model.build_classifier(
                    backbone,
                    settings.backbone,
                    num_classes=num_classes,
                    pooling=pooling,
                    head_units=settings.head_units,
                    dropout=settings.dropout,
                )
            )
            for pooling in poolings
        ]
    views = stages.make_views(settings, max(1, settings.cached_views))
    cache = stages.describe_cache(settings, model_dir)

    # What the other regimes will ask for comes out of the same passes, if they ask for
    # training images: where they do not, a lack of room for the rest is no mistake.
    others = [
        stage.frontier
        for stage in plan
        if settings.cached_views and stage.frontier and stage.frontier.suffix
    ]
    alone, with_others = (
        Crossing(run, classifier, [*frontiers, *more], settings.fold_frozen)
        for more in ([], others)
    )

    def cross(crossing: Crossing, split: str, looks: Sequence[View]) -> list[Records]:
        return features.cache_features(
            crossing,
            cache,
            stages.read_records(run, settings, cache, split, requests),
            split=split,
            views=looks,
            image_size=settings.image_size,
            batch_size=settings.batch_size,
            requests=requests,
        )

    plain = cross(with_others, "validation", [View()])
    augmented = cross(with_others, "train", views)
    # The plain training images and the changed validation images are of use to the
    # folds alone.
    rest = None
    if settings.folds:
        rest = (cross(alone, "validation", views), cross(alone, "train", [View()]))
    train, validation = {}, {}
    for index, pooling in enumerate(poolings):
        views, labels = _gather(run, augmented[index])
        (as_it_is,), val_labels = _gather(run, plain[index])
        val_views, train_as_it_is = None, None
        if rest is not None:
            val_views, _ = _gather(run, rest[0][index])
            (train_as_it_is,), _ = _gather(run, rest[1][index])
        train[pooling] = _Split(views, train_as_it_is, labels)
        validation[pooling] = _Split(val_views, as_it_is, val_labels)
    return train, validation


def _gather(run: Runtime, records: Records) -> tuple[list[np.ndarray], np.ndarray]:
    """All workers' features, of each view, and labels."""
    rows = records.dataset.batch(_EVALUATED_AT_ONCE).as_numpy_iterator()
    labels = np.concatenate([row["label"] for row in rows])
    *views, labels = (
        evaluation.gather_shares(run, part, records.count)
        for part in (*records.features, labels)
    )
    return views, labels


def _sweep(
    settings: TrainConfig,
    given: Head,
    train: dict[str, _Split],
    validation: dict[str, _Split],
    num_classes: int,
) -> list[dict]:
    """Trains the grid; gives a row a head, best first."""
    rates = sorted({*_RATES, given.head_lr})
    dropouts = sorted({*_DROPOUTS, given.dropout})
    most = given.cached_views
    views = sorted({most, *(2**k for k in range(most.bit_length()) if 2**k <= most)})
    rows = []
    for pooling, units, count in itertools.product(
        POOLINGS, sorted({*_UNITS, given.head_units}), views
    ):
        pairs = list(itertools.product(rates, dropouts))
        data = train[pooling]
        logits = train_heads(
            data.views[:count],
            data.labels,
            validation[pooling].plain,
            weights=np.ones((len(pairs), len(data.labels)), np.float32),
            rates=[rate for rate, _ in pairs],
            dropouts=[dropout for _, dropout in pairs],
            units=units,
            num_classes=num_classes,
            settings=settings,
        )
        for index, (rate, dropout) in enumerate(pairs):
            row = dataclasses.asdict(Head(rate, units, dropout, pooling, count))
            rows.append(row | _best_epoch(logits[:, index], validation[pooling].labels))
    return sorted(rows, key=_rank, reverse=True)


def _rank(row: dict) -> tuple[float, float]:
    """As the regimes rank their epochs."""
    return row["val_accuracy"], -row["val_loss"]


def _best_epoch(logits: np.ndarray, labels: np.ndarray) -> dict:
    """logits [epochs, N, K] -> the best epoch's figures; the first of equals."""
    figures = []
    for epoch, each in enumerate(logits, start=1):
        accuracy, loss = metrics.accuracy_and_loss(each, labels)
        # A rate that is too large ends in NaN, which ranks nowhere.
        loss = loss if np.isfinite(loss) else float("inf")
        accuracy = accuracy if np.isfinite(loss) else 0.0
        figures.append({"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss})
    return max(figures, key=_rank)


def _cross_validate(
    settings: TrainConfig,
    head: Head,
    train: _Split,
    validation: _Split,
    num_classes: int,
) -> dict:
    """Accuracy where each photograph of train and validation is held out once."""
    with open(pathlib.Path(settings.data_dir, "splits.csv"), newline="") as file:
        groups = {row["name"]: row["group"] for row in csv.DictReader(file)}
    names = [
        name
        for split in ("train", "validation")
        for name in dataset.read_names(dataset.read_records(settings.data_dir, split))
    ]
    folds = np.array(
        [
            splits.fold_of(groups[name], num_folds=settings.folds, seed=settings.seed)
            for name in names
        ]
    )
    held_out = np.arange(settings.folds)[:, None] == folds
    labels = np.concatenate([train.labels, validation.labels])
    looks = zip(
        train.views[: head.cached_views],
        validation.views[: head.cached_views],
        strict=True,
    )
    logits = train_heads(
        [np.concatenate(pair) for pair in looks],
        labels,
        np.concatenate([train.plain, validation.plain]),
        weights=(~held_out).astype(np.float32),
        rates=[head.head_lr] * settings.folds,
        dropouts=[head.dropout] * settings.folds,
        units=head.head_units,
        num_classes=num_classes,
        settings=settings,
    )
    # Of the last epoch: to choose one by what is held out would flatter it.
    correct = logits[-1, folds, np.arange(len(labels))].argmax(axis=1) == labels
    return {
        "folds": settings.folds,
        "count": len(labels),
        "accuracy": float(correct.mean()),
        "ci95": list(metrics.confidence_interval(int(correct.sum()), len(labels))),
        "accuracy_per_fold": [
            float(correct[own].mean()) if own.any() else None for own in held_out
        ],
        "head": dataclasses.asdict(head),
    }


def train_heads(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    evaluated: np.ndarray,
    *,
    weights: np.ndarray,
    rates: Sequence[float],
    dropouts: Sequence[float],
    units: int,
    num_classes: int,
    settings: TrainConfig,
) -> np.ndarray:
    """Trains H heads of one shape side by side, on one order of the examples.

    All start from the same weights and see the same batches, so that they differ by
    what they are to be compared by.

    Args:
      views: float [N, D] each; the epochs take them in turn.
      labels: int [N].
      evaluated: float [M, D], classified after each epoch.
      weights: float32 [H, N] of the examples for each head; 0 leaves one out.
      rates, dropouts: H of each.
      settings: epochs, batch size, schedule and seed of the head regime.

    Returns:
      float32 logits [epochs, H, M, K].
    """
    count, dimensions = views[0].shape
    (regime,) = (row for row in make_regimes(settings) if row.name == "head")
    steps = dataset.num_batches(count, settings.batch_size)
    factors = loop.make_rates(regime.schedule, 1.0, steps * regime.epochs)
    with tf.device("CPU:0" if not tf.config.list_logical_devices("GPU") else "GPU:0"):
        shapes = [(dimensions, units), (1, units), (units, num_classes)]
        shapes.append((1, num_classes))
        variables = [
            tf.Variable(_initialise(shape, len(rates), settings.seed))
            for shape in shapes
        ]
        velocities = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
        step = _make_step(variables, velocities, dropouts, regime.momentum)
        logits = []
        for epoch in range(regime.epochs):
            seed = dataset.mix_seed(settings.seed, epoch + 1)
            order = np.random.default_rng(seed).permutation(count)
            data = views[epoch % len(views)]
            for number in range(steps):
                start = number * settings.batch_size
                rows = order[start : start + settings.batch_size]
                factor = factors[epoch * steps + number]
                step(
                    tf.constant(data[rows].astype(np.float32)),
                    tf.constant(labels[rows]),
                    tf.constant(weights[:, rows]),
                    tf.constant([rate * factor for rate in rates], tf.float32),
                    tf.constant([seed, number]),
                )
            parts = [
                _classify(variables, evaluated[begin : begin + _EVALUATED_AT_ONCE])
                for begin in range(0, len(evaluated), _EVALUATED_AT_ONCE)
            ]
            logits.append(np.concatenate(parts, axis=1))
    return np.stack(logits)


def _initialise(shape: tuple[int, int], heads: int, seed: int) -> tf.Tensor:
    """Keras's defaults, the same for each head: biases zero, else Glorot and Bengio's
    uniform range (2010)."""
    if shape[0] == 1:
        return tf.zeros([heads, *shape])
    limit = (6 / sum(shape)) ** 0.5
    drawn = tf.random.stateless_uniform(shape, [seed, shape[1]], -limit, limit)
    return tf.tile(drawn[None], [heads, 1, 1])


def _make_step(variables, velocities, dropouts, momentum):
    """One step of SGD with Nesterov momentum, as Keras's, for all heads at once."""
    dropouts = tf.reshape(tf.constant(dropouts, tf.float32), [-1, 1, 1])

    @tf.function(reduce_retracing=True)
    def step(rows, labels, weights, rates, seed):
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(rows[None] @ variables[0] + variables[1])
            drawn = tf.random.stateless_uniform(tf.shape(hidden)[1:], seed)
            hidden *= tf.cast(drawn >= dropouts, tf.float32) / (1 - dropouts)
            logits = hidden @ variables[2] + variables[3]
            labels = tf.broadcast_to(labels, tf.shape(logits)[:2])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            counts = tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1.0)
            loss = tf.reduce_sum(weights * losses / counts)
        gradients = tape.gradient(loss, variables)
        rates = tf.reshape(rates, [-1, 1, 1])
        for variable, velocity, gradient in zip(
            variables, velocities, gradients, strict=True
        ):
            velocity.assign(momentum * velocity - rates * gradient)
            ahead = momentum * velocity if momentum else 0.0
            variable.assign_add(ahead - rates * gradient)

    return step


def _classify(variables, rows: np.ndarray) -> np.ndarray:
    rows = tf.constant(rows.astype(np.float32))
    hidden = tf.nn.relu(rows[None] @ variables[0] + variables[1])
    return (hidden @ variables[2] + variables[3]).numpy()


def _print_sweep(
    settings: TrainConfig, given: Head, ranked: Sequence[dict], count: int
) -> None:
    print(
        f"\nsweep: {len(ranked)} heads, {settings.head_epochs} epochs each, on features"
        f" of {settings.backbone}; validation has {count} photographs\n"
        "    rate  units  dropout  pooling  views  epoch  validation accuracy"
        "       loss"
    )
    wanted = dataclasses.asdict(given)
    place = next(
        i for i, row in enumerate(ranked) if all(row[k] == wanted[k] for k in wanted)
    )
    for index in sorted({*range(min(_SHOWN, len(ranked))), place}):
        row = ranked[index]
        correct = round(row["val_accuracy"] * count)
        low, high = metrics.confidence_interval(correct, count)
        print(
            f"{row['head_lr']:>8g}  {row['head_units']:>5}  {row['dropout']:>7g}  "
            f"{row['pooling']:>7}  {row['cached_views']:>5}  {row['epoch']:>5}  "
            f"{row['val_accuracy']:.4f} [{low:.4f}, {high:.4f}]  {row['val_loss']:.4f}"
            + (f"  (place {index + 1}: the flags)" if index == place else "")
        )
    print(
        f"kept the first; of {len(ranked)} on {count} the best is flattered: the test "
        "split says what it is worth, and --folds nearly so",
        flush=True,
    )


def _print_folds(found: dict) -> None:
    low, high = found["ci95"]
    parts = ", ".join(
        "none" if each is None else f"{each:.4f}" for each in found["accuracy_per_fold"]
    )
    print(
        f"{found['folds']}-fold accuracy of the head: {found['accuracy']:.4f} "
        f"[{low:.4f}, {high:.4f}] on {found['count']} photographs of train and "
        f"validation; by fold {parts}\n",
        flush=True,
    )
