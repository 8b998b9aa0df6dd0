"""The classifier, the run and the export that the tests of the export share."""

import copy
import dataclasses
import pathlib

import fakes
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from fakes import shallow_net
from fakes.image_files import photograph

from export.checks.c_api_process import answer_with_c_api
from export.checks.check_requests import ExpectedExport, make_requests
from export.export_run import export_run
from export.version.folding import predict_replies
from export.version.write import write_saved_model
from pipeline import decoding
from pipeline.inspection.reencoding import StoredForm
from pipeline.system import files
from trainer.config.flags import define_flags, from_flags
from trainer.postprocessing import postprocessing as postprocessing_file
from trainer.training import run_dir

SIDE = 32
FORM = StoredForm(sample_bits=12, background="black")


@pytest.fixture(scope="session")
def classifier():
    return fakes.make_classifier()


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    return [photograph(index) for index in range(5)]


@pytest.fixture(scope="session")
def pixels(images):
    return decoding.decode(tf.constant(images[0])).numpy()[np.newaxis]


@pytest.fixture(scope="session")
def postprocessing(classifier, images):
    return fakes.make_postprocessing(classifier, images)


@pytest.fixture(scope="session")
def saved_model(classifier, postprocessing, tmp_path_factory) -> pathlib.Path:
    """A SavedModel of the classifier; tests do not change it."""
    folder = tmp_path_factory.mktemp("saved_model") / "saved"
    write_saved_model(
        folder, classifier, fakes.CLASSES, postprocessing, image_size=SIDE, form=FORM
    )
    return folder


@pytest.fixture(scope="session")
def expected(classifier, postprocessing, images) -> ExpectedExport:
    return ExpectedExport(
        classes=fakes.CLASSES,
        embedding_size=256,
        weight_bytes=sum(w.numpy().nbytes for w in classifier.model.weights),
        replies=predict_replies(classifier, postprocessing, images, image_size=SIDE),
        postprocessing=postprocessing,
        precision="float32",
        form=FORM,
    )


@pytest.fixture(scope="session")
def answer(saved_model, images, pixels):
    return answer_with_c_api(saved_model, list(make_requests(images, pixels).values()))


@pytest.fixture
def replies(answer, images, pixels):
    """The replies by the names of the requests; a test may change them."""
    names = make_requests(images, pixels)
    return dict(zip(names, copy.deepcopy(answer["replies"]), strict=True))


def _write_run(
    base: pathlib.Path,
    backbone: str,
    model_flags: tuple[str, ...],
    *,
    data_dir: str,
    images: list[bytes],
) -> pathlib.Path:
    """Writes a run with random weights, as trainer.main leaves it."""
    values = flags.FlagValues()
    define_flags(values)
    values(
        [
            *("p", *model_flags, "--regimes=head"),
            *(f"--data_dir={data_dir}", f"--model_dir={base}"),
        ]
    )
    config = from_flags(values)
    base.mkdir()
    files.write_json(base / run_dir.CONFIG_FILE, {"flags": dataclasses.asdict(config)})
    metrics = {"accuracy": 0.5, "ci95": [0.3, 0.7], "count": 12, "loss": 1.0}
    per_class = {
        name: {
            **{"precision": 0.5, "precision_ci95": [0.1, 0.9], "predicted_count": 2},
            **{"recall": 0.25, "recall_ci95": [0.05, 0.7], "f1": 0.3, "count": 4},
        }
        for name in fakes.CLASSES
    }
    estimate = {"value": 0.5, "ci95": [0.25, 0.75], "count": 12}
    probabilities = dict.fromkeys(("loss", "brier", "calibration_error"), estimate)
    reliability = {
        **{"temperature": 0.8, "before": probabilities, "after": probabilities},
        **{"coverage": 0.9, "covered": estimate, "set_size": estimate},
        **{"unknown_rate": 0.05, "unknown": estimate, "val_count": 9, "bins": []},
    }
    files.write_json(
        base / run_dir.SUMMARY_FILE,
        {
            "classes": fakes.CLASSES,
            "best_regime": "head",
            "export": None,
            "test": metrics | {"per_class": per_class},
            "reliability": reliability,
            "head": {f"val_{name}": value for name, value in metrics.items()},
        },
    )
    classifier = fakes.make_classifier(backbone)
    # Random weights magnify rounding; a trained model's probabilities are calmer.
    kernel = classifier.head.get_layer("logits").kernel
    kernel.assign(kernel * 0.2)
    constants = fakes.make_postprocessing(classifier, images)
    postprocessing_file.write(base / postprocessing_file.FILE, constants)
    run_dir.save_best_weights(classifier, base, "head")
    return base


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, data_dir, images) -> pathlib.Path:
    """A run of the smallest backbone of keras.applications."""
    return _write_run(
        tmp_path_factory.mktemp("export") / "run",
        "MobileNet",
        fakes.TINY_MODEL_FLAGS,
        data_dir=data_dir,
        images=images,
    )


@pytest.fixture(scope="session")
def shallow_run(tmp_path_factory, data_dir, images) -> pathlib.Path:
    """A run of a backbone of 19 layers, for tests in which its layers prove nothing."""
    shallow_net.register()
    return _write_run(
        tmp_path_factory.mktemp("export") / "run",
        "ShallowNet",
        fakes.SHALLOW_MODEL_FLAGS,
        data_dir=data_dir,
        images=images,
    )


@pytest.fixture(scope="session")
def exported(trained_run, tmp_path_factory) -> pathlib.Path:
    """A version of the run; tests do not change it."""
    base = tmp_path_factory.mktemp("exported") / "export"
    return pathlib.Path(export_run(str(trained_run), str(base)))


@pytest.fixture(scope="session")
def restored(trained_run):
    """The classifier of the run."""
    config, classes, regime = run_dir.read_run(trained_run)
    return run_dir.restore_classifier(config, classes, trained_run, regime)
