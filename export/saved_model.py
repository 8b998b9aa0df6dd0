"""From a finished run to a verified, versioned SavedModel."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from export import card, deploy, gates, serving, session, warmup
from pipeline import dataset, files, preprocess, sample
from trainer import checkpoints, fold, model
from trainer.config import TrainConfig
from trainer.model import Classifier

PRECISIONS = ("float32", "bfloat16")

_PHOTOGRAPHS = 64
_FOLDING_TOLERANCE = 1e-5
_WITHDRAWN = ".withdrawn-"


def export_run(
    model_dir: str,
    export_dir: str,
    *,
    precision: str = "float32",
    max_accuracy_drop: float = 0.01,
    keep: int | None = None,
) -> str:
    """Exports a run's best weights as the next version below export_dir.

    The version appears, whole, after it passed every gate; see gates.py.

    Args:
      precision: of the served arithmetic, "float32" or "bfloat16".
      max_accuracy_drop: how much of the test accuracy bfloat16 may cost.
      keep: how many older versions stay; None keeps all.

    Returns:
      The version's directory.

    Raises:
      ValueError: no finished run in model_dir, nothing can be written to export_dir,
        bfloat16 costs too much, or a gate stays shut.
    """
    run_dir, base = pathlib.Path(model_dir), pathlib.Path(export_dir)
    files.check_writable(base, "export_dir")
    settings, classes, regime = checkpoints.read_run(run_dir)
    trained = checkpoints.restore(settings, classes, run_dir, regime)
    photographs, origin = _find_photographs(settings.data_dir, model_dir)
    served, measured = _prepare_for_serving(
        trained, settings, model_dir, photographs, precision, max_accuracy_drop
    )
    summary = json.loads((run_dir / checkpoints.SUMMARY_FILE).read_text())
    described = card.describe_model(
        settings,
        summary,
        classes,
        regime=regime,
        precision=precision,
        measured=measured,
    )
    with files.temporary_sibling(base / "next") as work_dir:
        candidate = work_dir / "saved_model"
        try:
            write_saved_model(
                candidate, served, classes, image_size=settings.image_size
            )
        except tf.errors.OpError as error:  # such as of a full disk
            raise OSError(error.message) from error
        card.write_card(candidate, described)
        difference = gates.run_gates(
            candidate,
            photographs,
            preprocess.decode(tf.constant(photographs[0])).numpy()[np.newaxis],
            gates.Expected(
                classes=classes,
                embedding_size=served.head.layers[1].output.shape[-1],
                weight_bytes=_count_weight_bytes(served),
                probabilities=predict(
                    trained if precision == "float32" else served,
                    photographs,
                    image_size=settings.image_size,
                ),
                precision=precision,
            ),
        )
        version = publish(candidate, base, keep=keep)
    checkpoints.record_export(run_dir, str(version))
    print(
        f"exported {version} ({regime} weights, {precision}): passed every gate; "
        f"outside Python probabilities are within {difference:.1e} of the model's on "
        f"{len(photographs)} {origin}\nserve it with\n{deploy.docker_command(base)}",
        flush=True,
    )
    return str(version)


def _prepare_for_serving(
    trained: Classifier,
    settings: TrainConfig,
    model_dir: str,
    photographs: Sequence[bytes],
    precision: str,
    max_accuracy_drop: float,
) -> tuple[Classifier, dict | None]:
    """Folds batch norm and lowers the precision; says what either changed."""
    size = settings.image_size
    folded = fold.fold_batch_norm(trained.backbone)
    served = _with_backbone(trained, folded.model)
    before, after = (
        predict(classifier, photographs, image_size=size)
        for classifier in (trained, served)
    )
    change = float(np.abs(before - after).max())
    if not change <= _FOLDING_TOLERANCE:
        print(
            f"batch norm stays where it is: folding it changes a probability by "
            f"{change:.1e} (allowed: {_FOLDING_TOLERANCE})"
        )
        served = trained
    elif folded.folded or folded.kept:
        rest = f"; {len(folded.kept)} follow no convolution and stay"
        print(
            f"{folded.folded} batch norms folded into convolutions (a probability "
            f"changes by {change:.1e} at most){rest if folded.kept else ''}"
        )
    if precision == "float32":
        return served, None
    lowered = _with_backbone(
        trained, fold.fold_batch_norm(trained.backbone, precision=precision).model
    )
    measured = _measure_accuracy(
        {"float32": trained, "served": lowered}, settings, model_dir
    )
    drop = measured["float32"] - measured["served"]
    print(
        f"accuracy on {measured['count']} test photographs: {measured['float32']:.4f} "
        f"in float32, {measured['served']:.4f} in {precision} ({-drop:+.4f}; one "
        f"photograph is {1 / measured['count']:.4f})"
    )
    if drop > max_accuracy_drop:
        raise ValueError(
            f"{precision} costs more test accuracy than it may. Received: "
            f"--precision={precision} --max_accuracy_drop={max_accuracy_drop:g}, and "
            f"it costs {drop:.4f}; export with --precision=float32 or allow more."
        )
    return lowered, measured


def _with_backbone(classifier: Classifier, backbone: keras.Model) -> Classifier:
    """The head stays in float32, whatever the backbone computes in."""
    return model.assemble(classifier.normalise, backbone, classifier.head)


def predict(
    classifier: Classifier, photographs: Sequence[bytes], *, image_size: int
) -> np.ndarray:
    """Encoded images -> float32 [N, K] probabilities, in a graph as training evaluates.

    TensorFlow fuses layers there, which rounds otherwise than one layer at a time.
    """

    @tf.function(autograph=False)
    def run(images):
        return tf.nn.softmax(model.compute_logits(classifier, images))

    pixels = [
        preprocess.decode_and_resize(tf.constant(one), image_size)
        for one in photographs
    ]
    batches = [pixels[at : at + 32] for at in range(0, len(pixels), 32)]
    return np.concatenate([run(tf.stack(batch)).numpy() for batch in batches])


def _measure_accuracy(
    classifiers: dict[str, Classifier], settings: TrainConfig, model_dir: str
) -> dict:
    """Name -> accuracy on the test split, and the count of its photographs."""
    data_dir = _find_data(settings.data_dir, model_dir)
    if data_dir is None:
        raise ValueError(
            "bfloat16 is only served with its accuracy measured, and the prepared data "
            f"is gone. Received: --precision=bfloat16, data in {settings.data_dir}; "
            "bring it back or export with --precision=float32."
        )
    batches = dataset.make_eval_dataset(
        dataset.read_records(data_dir, "test"),
        image_size=settings.image_size,
        batch_size=32,
        per_replica_batch_size=32,
    )
    predictors = {
        name: tf.function(
            lambda images, one=classifier: model.compute_logits(one, images),
            autograph=False,
        )
        for name, classifier in classifiers.items()
    }
    correct, count = dict.fromkeys(classifiers, 0.0), 0.0
    for batch in batches:
        weight = tf.cast(batch["weight"], tf.float32)
        count += float(tf.reduce_sum(weight))
        for name, predictor in predictors.items():
            predicted = tf.argmax(
                predictor(batch["image"]), axis=1, output_type="int32"
            )
            right = tf.cast(predicted == tf.cast(batch["label"], tf.int32), tf.float32)
            correct[name] += float(tf.reduce_sum(right * weight))
    return {name: value / count for name, value in correct.items()} | {
        "count": int(count)
    }


def write_saved_model(
    saved_model_dir: pathlib.Path,
    classifier: Classifier,
    classes: Sequence[str],
    *,
    image_size: int,
) -> None:
    """Writes the SavedModel and its warm-up."""
    tf.saved_model.save(
        serving.hold_variables(classifier),
        str(saved_model_dir),
        signatures=serving.make_signatures(classifier, classes, image_size=image_size),
    )
    # TensorFlow 2 calls every signature a predict one; Classify asks for its own name.
    path = saved_model_dir / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        meta_graph.signature_def["classify"].method_name = session.CLASSIFY_METHOD
    path.write_bytes(saved.SerializeToString(deterministic=True))
    fingerprint = fingerprinting.CreateFingerprintDef(str(saved_model_dir))
    (saved_model_dir / "fingerprint.pb").write_bytes(fingerprint)
    warmup.write_warmup(saved_model_dir)


def _count_weight_bytes(classifier: Classifier) -> int:
    return sum(
        int(np.prod(weight.shape)) * tf.as_dtype(weight.dtype).size
        for part in (classifier.backbone, classifier.head)
        for weight in part.weights
    )


def _find_data(data_dir: str, model_dir: str) -> str | None:
    for candidate in (data_dir, os.path.join(model_dir, "data")):
        if os.path.isdir(candidate):
            return candidate
    return None


def _find_photographs(data_dir: str, model_dir: str) -> tuple[list[bytes], str]:
    """Real image bytes to try the export with, and what they are."""
    found = _find_data(data_dir, model_dir)
    if found is not None:
        examples = dataset.read_records(found, "test").dataset.take(_PHOTOGRAPHS)
        encoded = [example["image_bytes"] for example in examples.as_numpy_iterator()]
        return encoded, "test photographs"
    drawn = [sample.draw_jpeg(label, 0) for label in sample.CLASSES]
    return drawn, f"drawn images (no data at {data_dir})"


@contextlib.contextmanager
def _only_one_publisher(base: pathlib.Path) -> Iterator[None]:
    """Versions and the files beside them change together."""
    descriptor = os.open(base, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def publish(
    candidate: pathlib.Path, base: pathlib.Path, *, keep: int | None
) -> pathlib.Path:
    """Renames a finished SavedModel to the next version and writes the configuration.

    The version is the second it appears in, and more than any before it, withdrawn ones
    included.
    """
    _sync(candidate)
    with _only_one_publisher(base):
        taken = deploy.list_versions(base) + list_withdrawn(base)
        version = base / str(max([int(time.time()), *(v + 1 for v in taken)]))
        candidate.rename(version)
        _sync_directory(base)
        versions = deploy.list_versions(base)
        leaving = versions[: -1 - keep] if keep is not None else []
        deploy.write_files(base, versions[len(leaving) :])
        for old in leaving:
            _remove(base / str(old))
    return version


def roll_back(export_dir: str) -> str:
    """Withdraws the newest version, so that servers go back to the one before.

    It stays below export_dir under a name that no server reads.

    Returns:
      The version that is the newest now.

    Raises:
      ValueError: there is no version to go back to.
    """
    base = pathlib.Path(export_dir)
    if not base.is_dir():
        raise ValueError(f"No such directory. Received: --export_dir={export_dir}")
    with _only_one_publisher(base):
        versions = deploy.list_versions(base)
        if len(versions) < 2:
            raise ValueError(
                "--rollback needs two versions, one to withdraw and one to go back to. "
                f"Received: --export_dir={export_dir} with {versions}"
            )
        newest, next_one = (base / str(version) for version in versions[:-3:-1])
        # Labels leave a version before it goes, and name none that is not loaded: a
        # server refuses them all then.
        deploy.write_files(base, versions[-2:-1])
        print(f"the label moves to {next_one.name}; waiting for servers", flush=True)
        time.sleep(deploy.CONFIG_POLL_SECONDS + 1)
        newest.rename(base / f"{_WITHDRAWN}{newest.name}")
        deploy.write_files(base, versions[:-1])
        _sync_directory(base)
    return str(next_one)


def list_withdrawn(base: pathlib.Path) -> list[int]:
    """The versions that roll_back() took away."""
    names = [path.name.removeprefix(_WITHDRAWN) for path in base.glob(f"{_WITHDRAWN}*")]
    return [int(name) for name in names if name.isdecimal()]


def _remove(version: pathlib.Path) -> None:
    """At once for a server, that must not see half a version."""
    with files.temporary_sibling(version.with_name("old")) as aside:
        version.rename(aside / version.name)
        shutil.rmtree(aside / version.name)


def _sync(directory: pathlib.Path) -> None:
    """Brings a directory to the disk: a rename may get there before what it names."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_directory(folder)


def _sync_directory(folder: str | os.PathLike) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
