"""Tests of the learning rate schedules."""

import math

import fakes
import pytest

from trainer.training.optimizer import make_optimizer


def test_the_schedules_are_what_they_say():
    runtime = fakes.one_device_runtime()
    classifier = fakes.restore_classifier()
    rates = {}
    for schedule in ("inverse_time", "constant", "cosine", "warmup_cosine"):
        optimizer = make_optimizer(
            runtime,
            classifier,
            learning_rate=0.1,
            momentum=0.9,
            schedule=schedule,
            total_steps=100,
        )
        rates[schedule] = []
        for step in (0, 5, 10, 55, 100):
            optimizer.iterations.assign(step)
            rates[schedule].append(float(optimizer.learning_rate))
    assert rates["constant"] == pytest.approx([0.1] * 5)
    assert [rates["cosine"][i] for i in (0, 4)] == pytest.approx([0.1, 0.0], abs=1e-8)
    assert rates["cosine"][3] == pytest.approx(0.05 * (1 + math.cos(0.55 * math.pi)))
    assert rates["warmup_cosine"] == pytest.approx(
        [0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-8
    )
    assert rates["inverse_time"][4] == pytest.approx(0.1 / 1.0001)
