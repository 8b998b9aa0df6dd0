"""On real photographs and pretrained weights, where a checkout has them beside it."""

import json
import pathlib

import fakes
import pytest

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


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> pathlib.Path:
    """A run from the photographs to an evaluated head."""
    run_dir = tmp_path_factory.mktemp("photographs") / "run"
    done = fakes.run_fork(
        *(fakes.TRAIN_ONLY, f"--source={FLOWERS}", f"--model_dir={run_dir}"),
        *("--backbone=MobileNet", "--backbone_args=alpha=0.25", f"--weights={WEIGHTS}"),
        *("--regimes=head", "--cached_views=0", "--precision=float32"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return run_dir


def _names(groups: list[dict]) -> list[list[str]]:
    return [group["names"] for group in groups]


def test_every_known_duplicate_and_conflict_is_found_and_no_other(run_dir):
    audit = json.loads((run_dir / "data" / "audit.json").read_text())
    assert audit["rejected"] == []
    assert _names(audit["label_conflicts"]) == [
        ["rose/15922772266_1167a06620.jpg", "tulip/15922772266_1167a06620.jpg"]
    ]
    assert _names(audit["copies"]) == [
        [
            "sunflower/14889392928_9742aed45b_m.jpg",
            "sunflower/15066430311_fb57fa92b0_m.jpg",
        ]
    ]
    # Looked at one by one: the same picture, resized, recoloured or reframed.
    assert _names(audit["near_duplicates"]) == [
        ["daisy/10993710036_2033222c91.jpg", "daisy/10993818044_4c19b86c82.jpg"],
        ["rose/1775233884_12ff5a124f.jpg", "rose/2093263381_afd51358a3.jpg"],
        ["rose/4608559939_3487bf3b62_n.jpg", "rose/4609168052_3d4e1d3804_n.jpg"],
        [
            "sunflower/14925398301_55a180f919_n.jpg",
            "sunflower/14925398441_107f3e0304_n.jpg",
        ],
        ["tulip/12916135413_dafcf3089e_n.jpg", "tulip/12916441224_2ed63596f8_n.jpg"],
    ]
    counts = [
        count for splits in audit["classes"].values() for count in splits.values()
    ]
    assert sum(counts) == 997


def test_pretrained_features_classify_flowers(run_dir):
    summary = json.loads((run_dir / "summary.json").read_text())
    # 0.83 measured; a linear probe on the same features reaches 0.81 of 89.
    assert summary["head"]["val_accuracy"] > 0.7
    assert summary["head"]["val_count"] == 89
    assert summary["test"]["accuracy"] > 0.7
    assert summary["test"]["count"] == 105
