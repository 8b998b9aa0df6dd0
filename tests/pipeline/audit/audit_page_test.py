import asyncio
import csv
import html
import io
import re

import fakes
import numpy as np
import pytest
from fakes import browser
from PIL import Image

from pipeline import prepare
from pipeline.audit import audit_json, audit_page
from pipeline.audit.decide import Audit
from pipeline.audit.findings import Finding
from pipeline.inspection.image_report import ImageReport
from pipeline.inspection.quality import Quality
from pipeline.loading import prepared_data
from pipeline.prepare import Rules
from pipeline.sources.images import Listing, SourceImage


def _text(page: str) -> str:
    page = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _audit_only(folder, report_dir):
    prepare.audit_only(
        str(folder), str(report_dir), seed=1, rules=Rules(), strict=False
    )


def test_the_page_shows_every_finding_and_escapes_names(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    (folder / "circle" / "no <b>.jpg").write_text("no image")
    twin = (folder / "circle" / "00.jpg").read_bytes()
    (folder / "circle" / "twin.jpg").write_bytes(twin)
    (folder / "square" / "wrong.jpg").write_bytes(
        (folder / "stripe" / "00.jpg").read_bytes()
    )
    Image.new("RGB", (200, 40), "black").save(folder / "square" / "night.jpg")
    Image.new("RGB", (9, 9), "red").save(folder / "square" / "dot.png")
    _audit_only(folder, tmp_path)
    page = (tmp_path / "audit.html").read_text()
    text = _text(page)
    assert "Audit 11 images, 6 to use." in text
    assert (
        "images left out 2 pictures under several classes 1 copies left out 1 "
        "groups of near duplicates 0 near duplicates under several classes 0 "
        "odd images, used 0 images of doubtful quality, used 1 "
        "Classes circle 2 square 3 stripe 1 "
        "The largest class has 3.0 times the images of the smallest. "
        "Sizes min 5 % median 95 % max sum width "
    ) in text
    assert (
        "left out, not an image: 1 circle/no <b>.jpg left out "
        "left out, too small: 1 square/dot.png 9 x 9 pixels; left out "
        "under several classes: 1 square/wrong.jpg stripe/00.jpg all copies left out "
        "copies left out: 1 circle/twin.jpg kept circle/00.jpg; left out "
        "used, but dark: 1 Nearly all pixels are darker than 64 of 255. "
        "square/night.jpg lightest 0 of 255; used "
    ) in text
    assert "Findings 7 findings. Each kind" in text
    assert text.endswith(
        "seed 1 min_side_px 16 max_side_px not set sample_bits not set "
        "background white class_level not set "
        "csv_columns not set conflicts drop corrections not set"
    )
    assert "no &lt;b&gt;.jpg" in page
    # The dot, two of the conflict, the copy, and the night three times.
    assert page.count("data:image/jpeg;base64,") == 7
    with open(tmp_path / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "2", "3", "3", "4", "5", "6", "7"]
    assert rows[0]["name"] == "circle/no <b>.jpg"


def test_a_source_without_findings_has_no_script(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    _audit_only(folder, tmp_path)
    page = (tmp_path / "audit.html").read_text()
    assert "<script" not in page
    assert "Findings none Settings" in _text(page)


def _large_audit(count: int) -> Audit:
    """Findings of many kinds about `count` images with names of 100 characters."""
    noise = np.random.default_rng(0).integers(0, 256, (140, 140, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    content = file.getvalue()
    reports = [
        ImageReport(
            SourceImage(f"{n % 10}/{n:098d}", str(n % 10), lambda: content),
            None,
            oddities=(f"oddity {n % 7}",),
            width=140,
            height=140 + 300 * (n % 3),
            quality=Quality(0, 9 + 100 * (n % 2), 0.1),
        )
        for n in range(count)
    ]
    names = [report.image.name for report in reports]
    return Audit(
        readable=reports,
        usable=reports,
        group_of=dict(zip(names, names, strict=True)),
        rejected=[
            ImageReport(SourceImage(f"x/{n:098d}", "x", bytes), f"reason {n % 60}")
            for n in range(count // 10)
        ],
        copies=[names[at : at + 3] for at in range(0, count, 30)],
        near_duplicates=[names[at : at + 400] for at in range(0, count, 500)],
        conflicts=[names[at : at + 2] for at in range(0, count, 20)],
    )


def test_the_examples_are_from_all_findings():
    findings = [Finding("used, but dark", (f"a/{n}",), "", "used") for n in range(900)]
    kind = audit_page._choose_examples("used, but dark", findings)
    assert [finding.names[0] for finding in kind.shown] == [
        f"a/{n}" for n in range(0, 900, 3)
    ]
    assert kind.count == 900
    groups = [Finding("copies", tuple("abcdef" * 9), "", "") for _ in range(100)]
    assert len(audit_page._choose_examples("copies", groups).shown) == 25
    assert audit_page._choose_examples("copies", groups[:3]).shown == groups[:3]


@pytest.mark.slow
def test_the_page_of_very_many_findings_is_small(tmp_path):
    audit = _large_audit(30_000)
    listing = Listing([report.image for report in audit.usable])
    settings = {"conflicts": "drop", "background": "white"}
    content = audit_json.audit_to_json(listing, audit, {}, settings)
    audit_page.write_page(tmp_path, content, audit)
    with open(tmp_path / "audit.csv", encoding="utf-8") as file:
        assert sum(1 for _ in file) > 100_000
    page = (tmp_path / "audit.html").read_text()
    assert len(page) < 8_000_000
    assert page.count("data:image/jpeg") > 200
    text = _text(page)
    assert "34 more kinds in audit.csv, with 1700 findings" in text
    assert "used, oddity 0: 4286 " in text
    assert "3986 more in audit.csv" in text
    assert "and 388 more images" in text


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")
def test_filter_and_search_with_real_clicks(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    Image.new("RGB", (200, 40), "black").save(folder / "square" / "night.jpg")
    for name in ("first", "Second <i>"):
        (folder / "circle" / f"{name}.jpg").write_text("no image")
    _audit_only(folder, tmp_path)
    asyncio.run(_use_page(tmp_path))


async def _use_page(folder):
    visible = "[...document.querySelectorAll('{}')].filter(e => e.offsetHeight).length"
    async with browser.open_browser(folder) as page:
        await page.open(folder / "audit.html")
        for width in (400, 1200):
            await page.send(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=False,
            )
            wide = "document.documentElement.scrollWidth > window.innerWidth"
            assert not await page.evaluate(wide), width
        assert await page.evaluate(visible.format(".finding")) == 5
        await page.click(".kinds button:nth-child(2)")
        assert await page.evaluate(visible.format(".finding")) == 2
        assert await page.evaluate(visible.format(".kind")) == 1
        await page.click("#search")
        await page.press(*"SECOND")
        assert await page.evaluate(visible.format(".finding")) == 1
        state = "document.getElementById('state').textContent"
        seen = "state.getBoundingClientRect().bottom < {}.getBoundingClientRect().top"
        assert await page.evaluate(seen.format("document.querySelector('.kinds')"))
        assert await page.evaluate(state) == "1 of 5 examples shown"
        assert await page.evaluate("document.querySelector('#kind-1 i')") is None
        await page.press(*" night")
        assert await page.evaluate(visible.format(".kind")) == 0
        await page.click(".kinds button:nth-child(1)")
        await page.evaluate("search.value = 'night'; show()")
        assert await page.evaluate(visible.format(".finding")) == 3


def test_the_format_that_is_written_can_be_read():
    assert audit_json.FORMAT == prepared_data.DATA_FORMAT == 1
