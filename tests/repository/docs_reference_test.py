"""Compares the reference pages with the flags, signatures and schemas of the code."""

import importlib
import re
import typing

import fakes
import pytest

from export.graph.signatures import declare_signatures
from trainer.config.flag_spec import get_specs
from trainer.config.recipes import RECIPES
from trainer.config.train_config import TrainConfig

REFERENCE = fakes.REPOSITORY / "docs" / "reference"


@pytest.mark.slow
def test_the_flags_are_those_of_the_commands():
    import importlib.util

    path = REFERENCE / "generate_flags.py"
    spec = importlib.util.spec_from_file_location("generate_flags", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (REFERENCE / "flags.md").read_text() == module.make_page()


def test_the_signatures_are_those_of_an_export():
    def describe(endpoints):
        sizes = {-1: "n", 7: "K", 11: "D"}
        return ", ".join(
            f"`{name}` {dtype} `[{', '.join(str(sizes.get(s, s)) for s in shape)}]`"
            for name, (dtype, shape) in endpoints.items()
        )

    text = (REFERENCE / "signatures.md").read_text()
    rows = re.findall(r"^\| `\w+` \|.*$", text, re.MULTILINE)
    assert rows == [
        f"| `{name}` | {describe(inputs)} | {describe(outputs)} |"
        for name, (_, inputs, outputs) in declare_signatures(7, 11).items()
    ]


def test_the_table_of_recipes_is_that_of_the_code():
    page = fakes.REPOSITORY / "docs" / "how-to" / "choose-a-recipe.md"
    rows = re.findall(r"^\| `--(\w+)` \| (\S+) \| (\S+) \|$", page.read_text(), re.M)
    specs = get_specs(TrainConfig)
    assert rows == [
        (name, _describe_default(specs[name].default), str(value))
        for name, value in RECIPES["notebook"].items()
    ]


def _describe_default(default: object) -> str:
    return "automatic" if default is None else str(default)


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("config.json", "trainer.training.run_config.RunConfig"),
        ("metrics.jsonl", "trainer.evaluation.epoch_metrics.EpochMetrics"),
        ("summary.json", "trainer.evaluation.summary.Summary"),
        ("A regime in summary.json", "trainer.evaluation.summary.RegimeSummary"),
        ("test in summary.json", "trainer.evaluation.metrics.Metrics"),
        (
            "reliability in summary.json",
            "trainer.evaluation.reliability.Reliability",
        ),
        ("A slice in summary.json", "trainer.evaluation.slices.Slice"),
        (
            "A point of confidence_curve in summary.json",
            "trainer.evaluation.confidence_curve.ConfidencePoint",
        ),
        ("learning_curve.json", "trainer.evaluation.learning_curve.LearningCurve"),
        ("audit.json", "pipeline.audit.audit_json.AuditJson"),
        ("model_card.json", "export.version.card_types.ModelCard"),
        ("reference.npz", "export.drift_check.reference.Reference"),
        ("drift.json", "export.drift_check.comparison.DriftReport"),
    ],
)
def test_the_fields_of_files_are_documented(heading, schema):
    text = (REFERENCE / "files.md").read_text()
    section = text.split(f"### `{heading}`\n", 1)[1].split("\n##", 1)[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    module, _, name = schema.rpartition(".")
    fields = typing.get_type_hints(getattr(importlib.import_module(module), name))
    assert documented == list(fields)
