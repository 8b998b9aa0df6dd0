"""Tests of the learning rate schedules."""

import fakes
import pytest

from trainer.training.optimizer import make_optimizer


def test_the_schedules_are_what_they_say():
    runtime = fakes.one_device_runtime()
    with runtime.strategy.scope():
        classifier = fakes.make_classifier()
    rates = {}
    for schedule in ("inverse_time", "constant", "cosine"):
        optimizer = make_optimizer(
            runtime,
            classifier,
            learning_rate=0.1,
            momentum=0.9,
            schedule=schedule,
            total_steps=100,
        )
        rates[schedule] = []
        for step in (0, 50, 100):
            optimizer.iterations.assign(step)
            rates[schedule].append(float(optimizer.learning_rate))
    assert rates["constant"] == pytest.approx([0.1, 0.1, 0.1])
    assert rates["cosine"] == pytest.approx([0.1, 0.05, 0.0], abs=1e-8)
    assert rates["inverse_time"] == pytest.approx([0.1, 0.1 / 1.00005, 0.1 / 1.0001])
