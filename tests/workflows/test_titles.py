"""What users call the workflows: numbered, found by the pack's name, and by what they were called before."""

import re

import pytest
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.workflows import graphs
from magicstyle.tools.workflows import build
from magicstyle.tools.workflows.titles import APPS, TITLES, title

# as the template browser splits what it finds and what is searched
WORDS = re.compile(r"\s+")


def test_every_workflow_is_a_file_under_its_title_and_has_a_twin():
    built = [workflow.name for workflow in build.WORKFLOWS]
    assert sorted(built) == graphs.NAMES == sorted(graphs.saved_files())
    assert {name: graphs.title(name) for name in built} == {name: title(name) for name in built}


def test_titles_are_numbered_so_that_a_sorted_list_is_the_order_of_the_cards():
    numbers = [int(text[:2]) for name, text in TITLES.items() if name not in APPS]
    assert numbers == sorted(set(numbers))
    assert [title(name) for name in TITLES] == sorted(map(title, TITLES))


def test_what_opens_in_app_mode_is_called_an_app():
    apps = {name for name in graphs.NAMES if graphs.saved(name)["extra"].get("linearMode")}
    assert apps == APPS == {name for name in graphs.NAMES if graphs.title(name).endswith(".app")}


@pytest.mark.parametrize("name", sorted(APPS))
def test_an_app_shows_widgets_and_results_that_are_there(name):
    saved = graphs.saved(name)
    nodes, shown = {node["id"]: node for node in saved["nodes"]}, saved["extra"]["linearData"]
    for number, widget in shown["inputs"]:
        assert widget in [entry["widget"]["name"] for entry in nodes[number]["inputs"] if "widget" in entry]
    assert [nodes[number]["type"] for number in shown["outputs"]] == ["SaveImage"]


def test_the_packs_name_finds_every_workflow_among_all_templates():
    for name in graphs.NAMES:
        # the search takes the beginnings of words
        assert any(word.startswith("magicstyle") for word in WORDS.split(graphs.title(name).lower()))


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
