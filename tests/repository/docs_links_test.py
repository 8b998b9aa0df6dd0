"""Checks the links and the paths that the documents name."""

import re

import fakes
import pytest

DOCUMENTS = sorted(
    [
        *(fakes.REPOSITORY / "docs").rglob("*.md"),
        *fakes.REPOSITORY.glob("*.md"),
        fakes.REPOSITORY / "benchmarks" / "RESULTS.md",
    ]
)
_PATH = re.compile(
    r"\b(?:pipeline|trainer|export|tests|benchmarks|docs)/[\w/.-]*"
    r"(?:\.(?:py|md|yaml|sh|flags|svg|json)\b|/(?=`))"
)
_NEW_PATH = re.compile(r"<!-- path-is-new: (\S+) -->")


def _name(path) -> str:
    return str(path.relative_to(fakes.REPOSITORY))


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', text))


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_relative_links_lead_to_a_file_and_a_heading(path):
    prose = re.sub(
        r"^ *```.*?^ *```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target.read_text()), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_paths_of_the_repository_exist(path):
    if path.name == "CHANGELOG.md":
        return  # It names files that are gone.
    text = path.read_text()
    new_paths = set(_NEW_PATH.findall(text))
    for name in set(_PATH.findall(text)) - new_paths:
        is_placeholder = "NAME" in name
        assert is_placeholder or (fakes.REPOSITORY / name).exists(), name


def test_the_readme_fits_on_a_page():
    text = (fakes.REPOSITORY / "README.md").read_text()
    assert len(text.splitlines()) <= 150
