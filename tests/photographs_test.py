"""On real photographs and pretrained weights, where a checkout has them beside it."""

import json

import fakes
import pytest

from pipeline import audit, sources

SHARED = fakes.REPOSITORY.parent / "shared"
FLOWERS = SHARED / "data" / "flowers"
WEIGHTS = SHARED / "weights" / "mobilenet_v1_0.25_224_no_top.weights.h5"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (FLOWERS.is_dir() and WEIGHTS.is_file()),
        reason=f"no photographs and weights in {SHARED}",
    ),
]


def test_the_picture_filed_under_two_classes_is_found():
    found = audit.audit_images(sources.list_images(str(FLOWERS), seed=1))
    assert found.rejected == {}
    assert found.conflicts == [
        ["rose/15922772266_1167a06620.jpg", "tulip/15922772266_1167a06620.jpg"]
    ]
    assert len(found.usable) == 998


def test_pretrained_features_classify_flowers(tmp_path):
    done = fakes.run(
        "-m",
        "trainer.main",
        f"--source={FLOWERS}",
        f"--model_dir={tmp_path / 'run'}",
        "--backbone=MobileNet",
        "--backbone_args=alpha=0.25",
        f"--weights={WEIGHTS}",
        "--regimes=head",
        "--head_epochs=3",
        "--precision=float32",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    # 0.83 measured; a linear probe on the same features reaches 0.81 of 89.
    assert summary["head"]["val_accuracy"] > 0.7
    assert summary["head"]["val_count"] == 89
    assert summary["test"]["accuracy"] > 0.7
    assert summary["test"]["count"] == 105
