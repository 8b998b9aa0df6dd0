import base64
import hashlib
import html.parser
import io
import pathlib

import pytest
from PIL import Image

from pipeline.stored_examples import read_examples
from trainer.comparison.alignment import align_runs
from trainer.comparison.compare_page import MARK, render_page
from trainer.comparison.comparison import compare_runs
from trainer.comparison.figures import run_figures
from trainer.comparison.run_results import read_runs

pytestmark = pytest.mark.usefixtures("few_resamples")


class _Page(html.parser.HTMLParser):
    """Collects the tags, the images and the text of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.words.append(data)


def _render(*paths: str) -> str:
    runs = align_runs(read_runs(paths))
    figures = [run_figures(run) for run in runs]
    return render_page(runs, figures, compare_runs(runs), csv_name="compare.csv")


@pytest.fixture
def config(data_dir) -> dict:
    """The config.json of a run on the prepared data."""
    splits = pathlib.Path(data_dir, "splits.csv").read_bytes()
    return {
        "flags": {"data_dir": data_dir},
        "data": {"splits_sha256": hashlib.sha256(splits).hexdigest()},
    }


@pytest.fixture
def names(data_dir) -> list[str]:
    """The names of the test photographs, in stored order."""
    examples = read_examples(pathlib.Path(data_dir), "test", range(1000))
    return [example.name for example in examples.values()]


def _answers(names, wrong=()):
    classes = ("circle", "square", "stripe")
    return {
        name: (
            name.split("/")[0],
            classes[(classes.index(name.split("/")[0]) + (name in wrong)) % 3],
        )
        for name in names
    }


def test_changed_photographs_are_shown(make_run, config, names, data_dir):
    shuffled = names[::-1]  # Another order than that of the shards.
    classes = ("circle", "square", "stripe")
    first = make_run("a", _answers(names), classes=classes, config=config)
    second = make_run(
        *("b", _answers(shuffled, names[:2])), classes=classes, config=config
    )
    page = _Page(_render(first, second))
    assert f"Broken: only A is right (2 of {len(names)})" in page.text
    assert f"Mended: only B is right (0 of {len(names)}) None." in page.text
    assert len(page.images) == 2
    examples = read_examples(pathlib.Path(data_dir), "test", [0, 1])
    for image, example in zip(page.images, examples.values(), strict=True):
        label = example.name.split("/")[0]
        assert image["alt"] == f"Test photograph of the class {label}"
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
            expected = Image.open(io.BytesIO(example.image_bytes))
            assert shown.size == expected.size  # They are smaller than a thumbnail.
        assert f"{example.name} label: {label} A: {label} 0.80, right B:" in page.text
    assert "by their names alone" not in page.text


def test_without_the_data_the_page_has_names(make_run, names):
    classes = ("circle", "square", "stripe")
    first = make_run("a", _answers(names), classes=classes)
    second = make_run("b", _answers(names, names[:1]), classes=classes)
    page = _Page(_render(first, second))
    assert not page.images
    assert page.text.count("The photographs cannot be shown, because the prepared") == 1
    assert "The photographs were compared by their names alone" in page.text
    assert f"{names[0]} label: {names[0].split('/')[0]} A:" in page.text


def test_names_are_harmless(make_run, tmp_path):
    name, label = "<script>alert(1)</script>\x1b[2J\u202e.jpg", '"><img src=x>'
    config = {"flags": {"weights": "<b>{{ 7 * 7 }}</b>"}}
    runs = [
        make_run(
            folder,
            {name: (label, answer), "2.jpg": (label, label)},
            classes=(label, "rose"),
            config=config if folder == "a&lt;" else None,
        )
        for folder, answer in (("a&lt;", label), ("b<i>", "rose"))
    ]
    page = _render(*runs)
    parsed = _Page(page)
    assert not {"script", "img", "b", "i"} & set(parsed.tags)
    assert r"<script>alert(1)</script>\x1b[2J\u202e.jpg" in parsed.text
    assert f"label: {label}" in parsed.text
    assert "<b>{{ 7 * 7 }}</b>" in parsed.text
    assert str(tmp_path / "a&lt;") in parsed.text
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_the_page_has_the_outcome_and_every_figure(make_run):
    answers = {f"{i:02d}.jpg": ("rose", "rose") for i in range(30)}
    worse = answers | {f"{i:02d}.jpg": ("rose", "tulip") for i in range(8)}
    page = _render(make_run("a", answers), make_run("b", worse))
    text = _Page(page).text
    assert MARK in page[:4096]
    assert (
        text.count("B is right on 8 fewer of 30 test photographs than A (-0.267") == 1
    )
    assert "accuracy A 1.000 [0.886, 1.000]" in text
    assert "B 0.733 [0.556, 0.858] -0.267 [-0.444, -0.123]" in text
    assert "class A B of difference rose 30 22 30 -0.267 [-0.444, -0.123]" in text
    assert "Settings that differ None." in text
    assert 'aria-label="-0.267 [-0.444, -0.123] on a scale from -0.44 to 0.44"' in page


def test_a_page_of_many_changes_is_limited(make_run):
    answers = {f"{i}.jpg": ("rose", "rose") for i in range(70)}
    wrong = dict.fromkeys(answers, ("rose", "tulip"))
    page = _Page(
        _render(
            *(make_run(n, a) for n, a in (("a", answers), ("b", wrong), ("c", wrong)))
        )
    )
    assert page.tags.count("figure") == 60
    assert page.text.count("40 more in compare.csv") == 2


def test_many_classes_are_limited_to_the_largest_differences(make_run):
    classes = [f"class {i}" for i in range(60)]
    answers = {f"{name} {i}": (name, name) for name in classes for i in range(2)}
    worse = answers | {"class 55 0": ("class 55", "class 1")}
    page = _Page(
        _render(
            make_run("a", answers, classes=classes),
            make_run("b", worse, classes=classes),
        )
    )
    assert "10 classes with smaller differences are left out." in page.text
    assert "class 55 2 1 2 -0.500" in page.text
    assert "class 58 2 2 2" not in page.text
