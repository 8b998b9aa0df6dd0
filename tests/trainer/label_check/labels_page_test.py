"""Works through labels.html with the keys of a real browser."""

import asyncio
import base64
import io
import json
import re

import pytest
from fakes import browser
from PIL import Image

from pipeline.sources.corrections import read_corrections
from trainer.label_check import labels_page
from trainer.label_check.labels_page import CheckedData
from trainer.label_check.ranking import LabelIssue, Ranking

# What a folder can be called, and what HTML, JavaScript and CSV must not run.
NAMES = (
    "rose/</script><script>document.title='bad'</script>.jpg",
    "=1+1/\"quoted\", 'twice'.jpg",
    "__proto__",
    "tulip/<img src=x onerror=document.title='bad'>.jpg",
    "tulip/5.jpg",
    "tulip/6.jpg",
)
CLASSES = ("-rose", "tulip", "<b>daisy</b>")
_DECIDED = {"rose/old.jpg": {"action": "relabel", "label": "tulip"}}


def _thumbnail(colour):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


def _render(*, scores=(0.01, 0.02, 0.03, 0.04, 0.05, 0.9), decided=_DECIDED):
    """Returns the page of six photographs; the first has label 0, suggested is 1."""
    issues = [
        LabelIssue(position, position % 2, 1 - position % 2, score, 1 - score)
        for position, score in enumerate(scores)
    ]
    ranking = Ranking(issues, estimated_errors=4, not_judged=[])
    data = CheckedData(NAMES, ["train"] * len(NAMES), CLASSES, decided)
    shown = labels_page.choose_issues(ranking, data)
    thumbnails = {issue.position: _thumbnail("red") for issue in shown}
    return labels_page.render_page(ranking, data, shown, thumbnails)


def _read_data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page).group(1))


def test_the_page_shows_contradicted_labels_in_order():
    data = _read_data(_render())
    assert [shown["name"] for shown in data["photographs"]] == list(NAMES[:5])
    assert data["photographs"][1] == {
        "name": NAMES[1],
        "label": "tulip",
        "suggested": "-rose",
    }
    assert data["decided"] == _DECIDED


def test_a_photograph_that_was_decided_before_is_not_shown_again():
    decided = {NAMES[0]: {"action": "keep", "label": "-rose"}}
    data = _read_data(_render(decided=decided))
    assert [shown["name"] for shown in data["photographs"]] == list(NAMES[1:5])
    assert data["decided"] == decided


def test_the_decisions_on_other_labels_have_another_key():
    assert _read_data(_render())["key"] == _read_data(_render(decided={}))["key"]
    others = (0.01, 0.02, 0.03, 0.04, 0.05)
    assert _read_data(_render())["key"] != _read_data(_render(scores=others))["key"]


def test_a_large_page_ends_early(monkeypatch):
    size = len(_thumbnail("red"))
    monkeypatch.setattr(labels_page, "_MAX_THUMBNAIL_BYTES", 3 * size)
    assert len(_read_data(_render())["photographs"]) == 3


def test_without_contradictions_the_page_says_so():
    page = _render(scores=(0.9,) * 6)
    assert "No label contradicts its prediction" in page
    assert "<script" not in page


needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None, reason="no Chromium on this machine"
)


async def _decide(folder, path):
    async with browser.open_browser(folder) as page:
        await page.open(path)
        texts = []

        async def note():
            texts.append(await page.evaluate("document.body.innerText"))

        await note()
        await page.press("a", "k", "d", "u")
        assert await page.evaluate("document.getElementById('place').innerText") == (
            "3 of 5"
        )
        await page.press("d", "ArrowLeft", "ArrowRight", "k", "a", "u")
        await note()
        return texts, await page.evaluate("document.title")


async def _save(folder, path):
    async with browser.open_browser(folder) as page:
        await page.open(path)
        # The decisions of the first browser are still there; the fifth is open.
        place = await page.evaluate("document.getElementById('place').innerText")
        await page.press("c", "ArrowDown", "ArrowDown", "Enter")
        message = await page.evaluate("document.getElementById('message').innerText")
        await page.click("#save")
        async with asyncio.timeout(60):
            while not (folder / "corrections.csv").is_file():
                await asyncio.sleep(0.05)
        return place, message


@needs_browser
@pytest.mark.slow
def test_keys_decide_and_the_saved_file_is_a_corrections_file(tmp_path):
    path = tmp_path / "labels.html"
    path.write_text(_render(), encoding="utf-8")
    texts, title = asyncio.run(_decide(tmp_path, path))
    assert title == "Labels to check"
    assert all(name in texts[0] for name in NAMES[:5])
    assert "4 decided: 1 relabelled, 2 kept, 1 dropped" in texts[1]
    place, message = asyncio.run(_save(tmp_path, path))
    assert place == "5 of 5"
    assert "All are decided" in message
    corrections = read_corrections(str(tmp_path / "corrections.csv"))
    assert corrections.label_of == {
        "rose/old.jpg": "tulip",
        NAMES[0]: "tulip",
        NAMES[1]: "tulip",
        NAMES[2]: None,
        NAMES[3]: "tulip",
        NAMES[4]: "<b>daisy</b>",
    }


async def _measure(folder, path):
    async with browser.open_browser(folder) as page:
        await page.send(
            "Emulation.setDeviceMetricsOverride",
            width=400,
            height=800,
            deviceScaleFactor=1,
            mobile=True,
        )
        await page.open(path)
        await page.click("#list li:nth-child(4) button")
        place = await page.evaluate("document.getElementById('place').innerText")
        await page.click("#drop")
        return (
            place,
            await page.evaluate("document.documentElement.scrollWidth"),
            await page.evaluate("document.getElementById('progress').innerText"),
            await page.evaluate(
                "[...document.images].every(i => i.naturalWidth === 40)"
            ),
        )


@needs_browser
@pytest.mark.slow
def test_a_narrow_screen_and_clicks_are_enough(tmp_path):
    path = tmp_path / "labels.html"
    path.write_text(_render(), encoding="utf-8")
    place, width, progress, all_loaded = asyncio.run(_measure(tmp_path, path))
    assert place == "4 of 5"
    assert width <= 400
    assert "1 dropped" in progress
    assert all_loaded
