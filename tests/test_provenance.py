"""Every picture of the repository is named in assets/PROVENANCE.md, and everything named there exists."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from PIL import Image

PACK = Path(__file__).resolve().parents[1]
TEXT = (PACK / "assets" / "PROVENANCE.md").read_text(encoding="utf-8")
FOREIGN, OWN = TEXT.split("\n## ")[1:]
PATTERN = re.compile(r"`([\w*./-]+)`")
FOLDERS = ("assets", "benchmarks", "docs", "subgraphs", "tests", "tools", "web", "workflows")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".bmp", ".tif", ".tiff"}
LARGEST = 600_000  # bytes of the demo pair


def first_cells(section):
    """What the first column of a table names."""
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    return [name for row in rows for name in PATTERN.findall(row)]


def pictures():
    found = (path for folder in FOLDERS for path in (PACK / folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(
        path.relative_to(PACK).as_posix()
        for path in found
        if "screenshots" not in path.parts[-2:-1] or path.is_relative_to(PACK / "assets")
    )


def test_every_picture_is_named_once():
    foreign, own = first_cells(FOREIGN), first_cells(OWN)
    lost = {path: [name for name in (*foreign, *own) if fnmatch(path, name)] for path in pictures()}
    assert {path: names for path, names in lost.items() if len(names) != 1} == {}


def test_what_is_named_exists():
    assert [name for name in (*first_cells(FOREIGN), *first_cells(OWN)) if not list(PACK.glob(name))] == []


@pytest.mark.parametrize("path", [path for path in pictures() if path.startswith("assets/gallery/")])
def test_a_picture_of_others_has_a_row_of_its_own(path):
    assert path in first_cells(FOREIGN)


def test_each_of_others_pictures_names_work_artist_year_source_and_licence():
    rows = [line.strip("| ").split(" | ") for line in FOREIGN.splitlines() if line.startswith("| `")]
    assert len(rows) == 7 and all(len(row) == 5 and all(row) for row in rows)
    assert all(re.search(r"\b1[5-9]\d\d\b", by) and "public domain" in licence for _, _, by, _, licence in rows)
    assert "endorse neither" in FOREIGN


def test_the_demo_pair_is_small_and_of_one_size():
    pair = [PACK / "assets" / name for name in ("demo_content.jpg", "demo_style.jpg")]
    assert sum(path.stat().st_size for path in pair) < LARGEST
    assert {Image.open(path).size for path in pair} == {(384, 512)}
