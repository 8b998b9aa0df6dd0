"""Tests that an evaluation classifies every example once."""

import fakes
import numpy as np

from pipeline.loading import prepared_data
from pipeline.loading.dataset import make_eval_dataset
from trainer.evaluation import evaluate

SIZES = {"image_size": 32, "batch_size": 8}


def test_evaluation_sees_every_example_once_in_stored_order(data_dir):
    runtime = fakes.one_device_runtime()
    records = prepared_data.read_records(data_dir, "test")
    assert records.count % 8
    classifier = fakes.restore_classifier()
    eval_step = evaluate.make_eval_step(runtime, classifier)
    logits, labels = evaluate.evaluate(runtime, eval_step, records, **SIZES)
    classes = prepared_data.read_info(data_dir).classes
    names = prepared_data.read_names(records)
    assert [classes[k] for k in labels] == [name.split("/")[0] for name in names]
    assert logits.shape == (records.count, 3)
    # One by one, by the plain model.
    one_by_one = make_eval_dataset(records, image_size=32, batch_size=1)
    expected = np.concatenate([classifier.model(b["image"]) for b in one_by_one])
    np.testing.assert_allclose(logits, expected, atol=1e-4)
