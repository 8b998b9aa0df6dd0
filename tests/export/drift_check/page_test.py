import html.parser
import json

from fakes.answers import make_answers
from fakes.image_files import photograph

from export.drift_check import comparison, page, reference

CLASSES = ("daisy", "<script>alert(1)</script>", "tulip")


def _render(tmp_path, *, unknown=False):
    training = make_answers(200, seed=99).embeddings
    made = reference.make_reference(
        make_answers(80, seed=1, with_scores=unknown), training, CLASSES
    )
    new = make_answers(30, seed=2, shift=1.0, with_scores=unknown)
    paths = {}
    for row in range(30):
        path = tmp_path / f"<img src=x onerror=alert({row})>.jpg"
        path.write_bytes(photograph(row))
        paths[str(path)] = str(path)
    left_out = [comparison.LeftOut(name="<b>broken", reason="not decodable")]
    report = comparison.compare(
        made, new, list(paths), version="EXPORT/7", left_out=left_out
    )
    json.dumps(report)  # It holds no NumPy values.
    return report, page.render_page(report, paths, limit=0.01), paths


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.images: list[dict] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))


def test_names_and_classes_are_text_and_photographs_have_alternatives(tmp_path):
    report, text, _ = _render(tmp_path)
    tags = _Tags()
    tags.feed(text)
    assert not tags.names & {"script", "b"}
    assert len(tags.images) == 24
    for image, row in zip(tags.images, report["unusual"], strict=True):
        assert set(image) == {"alt", "src"}
        assert image["alt"] == f"{row['name']}, predicted as {row['label']}"
        assert image["src"].startswith("data:image/jpeg;base64,")
    assert "&lt;b&gt;broken" in text
    assert "drift found (p = 0.001, 30 new photographs against 80" in text
    assert "unknown_score" not in text
    assert 'name="viewport"' in text


def test_the_unknown_score_has_a_row_if_there_is_one(tmp_path):
    report, text, _ = _render(tmp_path, unknown=True)
    assert f"<td>{report['unknown_score']['reference']:.3f}</td>" in text
    assert "unknown_score (Mann-Whitney)" in text


def test_a_photograph_that_is_gone_has_its_name_alone(tmp_path):
    report, _, paths = _render(tmp_path)
    (tmp_path / report["unusual"][0]["name"]).unlink()
    tags = _Tags()
    tags.feed(page.render_page(report, paths, limit=0.01))
    assert len(tags.images) == 23
