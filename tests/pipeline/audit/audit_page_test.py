import html
import re

import fakes

from pipeline import prepare
from pipeline.audit import audit_json
from pipeline.loading import prepared_data
from pipeline.prepare import Rules


def _text(page: str) -> str:
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_the_page_shows_every_finding_and_escapes_names(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    (folder / "circle" / "no <b>.jpg").write_text("no image")
    twin = (folder / "circle" / "00.jpg").read_bytes()
    (folder / "circle" / "twin.jpg").write_bytes(twin)
    (folder / "square" / "wrong.jpg").write_bytes(
        (folder / "stripe" / "00.jpg").read_bytes()
    )
    prepare.audit_only(str(folder), str(tmp_path), seed=1, rules=Rules(), strict=False)
    page = (tmp_path / "audit.html").read_text()
    text = _text(page)
    assert "Audit 9 images, 5 to use." in text
    assert (
        "images left out 1 pictures under several classes 1 copies left out 1 "
        "groups of near duplicates 0 odd images, used 0 "
        "Classes circle 2 square 2 stripe 1 "
        "The largest class has 2.0 times the images of the smallest. "
        "Sizes min 5 % median 95 % max sum width "
    ) in text
    assert (
        "Pictures under several classes square/wrong.jpg stripe/00.jpg "
        "Copies The first of each is used. circle/00.jpg circle/twin.jpg "
        "Near duplicates Each group stays in one split. none "
        "Left out circle/no <b>.jpg not an image Odd, but used none "
        "Settings source "
    ) in text
    assert text.endswith(
        "seed 1 min_side_px 16 max_side_px None sample_bits None class_level None "
        "csv_columns None conflicts drop corrections None"
    )
    assert "no &lt;b&gt;.jpg" in page
    assert page.count("data:image/jpeg;base64,") == 4


def test_the_format_that_is_written_can_be_read():
    assert audit_json.FORMAT == prepared_data.DATA_FORMAT == 1
