"""What users call the workflows: numbered, found by the pack's name, and by what they were called before."""

import re

import pytest
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.workflows import graphs
from magicstyle.tools.workflows import build
from magicstyle.tools.workflows.titles import TITLES, title

# as the template browser splits what it finds and what is searched
WORDS = re.compile(r"\s+")


def test_every_workflow_is_a_file_under_its_title_and_has_a_twin():
    built = [workflow.name for workflow in build.WORKFLOWS]
    assert sorted(built) == graphs.NAMES == sorted(graphs.saved_files())
    assert {name: graphs.title(name) for name in built} == {name: title(name) for name in built}


def test_titles_are_numbered_so_that_a_sorted_list_is_the_order_of_the_cards():
    numbers = [int(text[:2]) for text in TITLES.values()]
    assert numbers == sorted(set(numbers))
    assert list(TITLES.values()) == sorted(TITLES.values())


def test_the_packs_name_finds_every_workflow_among_all_templates():
    for name in graphs.NAMES:
        assert "magicstyle" in WORDS.split(graphs.title(name).lower())


def test_files_have_names_that_every_system_takes():
    for path in (PACK / "workflows").iterdir():
        assert re.fullmatch(r"[A-Za-z0-9 ,().-]+", path.name), path.name


def test_a_workflow_without_a_title_is_named():
    with pytest.raises(KeyError, match="new_page has no title"):
        title("new_page")


def test_former_names_lead_to_the_files():
    text = (PACK / "workflows" / "README.md").read_text(encoding="utf-8")
    for name in graphs.NAMES:
        assert f"| `{name}` | [{graphs.title(name)}]" in text
