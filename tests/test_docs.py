"""The README is short and leads on, and every page says whom it is for."""

import re
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[1]
README = PACK / "README.md"
PAGES = sorted((PACK / "docs").glob("*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page):
    text, dead = page.read_text(encoding="utf-8"), []
    for path, anchor in LINK.findall(text):
        target = page.parent / path if path else page
        if not target.exists():
            dead.append(path)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            dead.append(f"{path}#{anchor}")
    return dead


def test_the_readme_has_at_most_150_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_first_whom_it_is_for(page):
    title, empty, first, *_ = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ") and not empty
    assert first.startswith("For whoever "), first


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings_that_are_there(page):
    assert dead_links(page) == []


def test_every_page_is_linked_from_the_readme():
    linked = {path for path, _ in LINK.findall(README.read_text(encoding="utf-8"))}
    assert {f"docs/{page.name}" for page in PAGES} <= linked


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_queries_attend_to_keys(page):
    """In the field's word; they were said to ask once."""
    assert not re.findall(r"\bQ\S* asks?\b|quer(?:y|ies) asks?\b", page.read_text(encoding="utf-8"))
