"""Names that are made to do harm pass through the three commands and do none."""

import csv
import html
import json
import re

import fakes
import pytest

from pipeline.system.texts import unescape_formula
from trainer.evaluation.predictions import read_predictions

# Markup, formulas, terminal escapes, shell words, line ends, a lone byte.
LABELS = (
    "<img src=x onerror=alert(1)>",
    "=HYPERLINK(1)\x1b[31m",
    "$\\frac$(reboot)`; rm -rf",
)
NAMES = (
    "</script><script>document.title='bad'</script>.jpg",
    "+1+cmd|' calc'!A0.jpg",
    "\x1b]0;owned\x07\x1b[2J.jpg",
    "two\nlines\r.jpg",
    "-rf --help.jpg",
    "{{ 7*7 }}{% raw %}.jpg",
    "gpj.\u202etxt.jpg",
)
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The directories that the commands wrote, and what they printed."""
    base = tmp_path_factory.mktemp("hostile")
    folder = fakes.write_folder(base / "photos", per_class=25)
    for old, new in zip(fakes.CLASSES, LABELS, strict=True):
        label = new.replace("/", "")
        (folder / old).rename(folder / label)
        for index, name in enumerate(NAMES):
            (folder / label / f"{index:02d}.jpg").rename(
                folder / label / name.replace("/", "")
            )
    with open(bytes(folder / LABELS[1]) + b"/caf\xe9.jpg", "wb") as file:
        file.write(fakes.colour_jpeg("red", side=40))
    done = fakes.run_fork(
        # The label check needs weights that know photographs; the embedded ones do.
        *("-m", "trainer.main", "--recipe=notebook", "--image_size=32"),
        *("--weights=embedded",),
        *("--batch_size=8", "--precision=float32", "--regimes=head"),
        *("--head_epochs=1", f"--source={folder}", f"--model_dir={base / 'run'}"),
        *(f"--export_dir={base / 'export'}", "--check_labels"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return base, done.stdout + done.stderr


@pytest.mark.slow
def test_nothing_that_is_printed_acts_on_a_terminal(walked):
    assert not CONTROLS.search(walked[1])


@pytest.mark.slow
def test_no_page_has_markup_of_a_name(walked):
    base, _ = walked
    pages = [*base.glob("run/**/*.html")]
    assert {page.name for page in pages} == {"audit.html", "labels.html", "report.html"}
    for page in pages:
        text = page.read_text()
        assert not CONTROLS.search(text), page
        assert "<img src=x" not in text, page
        assert "<script>document" not in text, page
        assert "</script><script>" not in text, page
        assert LABELS[0] in html.unescape(text), page


@pytest.mark.slow
def test_no_table_has_a_formula_and_the_names_come_back(walked):
    base, _ = walked
    tables = [*base.glob("run/**/*.csv")]
    assert {table.name for table in tables} == {
        *("audit.csv", "splits.csv", "label_issues.csv", "test_predictions.csv")
    }
    for table in tables:
        with open(table, newline="", encoding="utf-8") as file:
            values = [value for row in csv.reader(file) for value in row]
        assert not [v for v in values if v.startswith(("=", "+", "-", "@"))], table
    with open(base / "run" / "data" / "splits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    predictions = read_predictions(
        base / "run" / "test_predictions.csv",
        json.loads((base / "run" / "summary.json").read_text())["classes"],
    )
    in_test = [row["name"] for row in rows if row["split"] == "test"]
    assert sorted(predictions.names) == sorted(map(unescape_formula, in_test))
    assert {name.split("/")[0] for name in predictions.names} == set(LABELS)


@pytest.mark.slow
def test_the_card_and_the_answers_have_the_real_names(walked, tmp_path):
    base, _ = walked
    (version,) = (each for each in (base / "export").iterdir() if each.name.isdigit())
    card = (version / "model_card.md").read_text()
    assert not CONTROLS.search(card)
    assert not re.search(r"(?<!\\)<img", card)
    assert json.loads((version / "model_card.json").read_text())["classes"] == sorted(
        LABELS
    )
    paths = [tmp_path / name.replace("/", "") for name in NAMES]
    for index, path in enumerate(paths):
        fakes.draw("circle", 200 + index).save(path)
    with fakes.Server(base / "export") as server:
        flags = ("--protocol=grpc", f"--server={server.grpc}", str(tmp_path))
        done = fakes.run("-m", "export.client", *flags)
        as_json = fakes.run("-m", "export.client", "--json", *flags)
    assert done.returncode == 0, done.stderr
    assert not CONTROLS.search(done.stdout + done.stderr)
    assert len(done.stdout.splitlines()) == 1 + len(NAMES)
    assert not CONTROLS.search(as_json.stdout)
    replies = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert {reply["name"] for reply in replies} == set(map(str, paths))
    assert {reply["label"] for reply in replies} <= set(LABELS)
