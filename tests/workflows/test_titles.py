"""What users call the workflows: numbered, short, found by what people look for, and by their former names."""

import re
import unicodedata

import pytest
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.workflows import graphs
from magicstyle.tools.workflows import build
from magicstyle.tools.workflows.titles import APPS, TITLES, title

SEARCHED = ("photo", "demo", "\u4eba\u50cf", "\u30dd\u30fc\u30c8\u30ec\u30fc\u30c8")
ROOM = 31  # letters of a title that a card shows at 1600x900, where a Chinese or Japanese one counts as two


def test_every_workflow_is_a_file_under_its_title_and_has_a_twin():
    built = [workflow.name for workflow in build.WORKFLOWS]
    assert sorted(built) == graphs.NAMES == sorted(graphs.saved_files())
    assert {name: graphs.title(name) for name in built} == {name: title(name) for name in built}


def test_titles_are_numbered_so_that_a_sorted_list_is_the_order_of_the_cards():
    numbers = [int(text[:2]) for name, text in TITLES.items() if name not in APPS]
    assert numbers == sorted(set(numbers))
    assert [int(text[:2]) for text in TITLES.values()] == sorted(int(text[:2]) for text in TITLES.values())


def test_no_title_is_cut_off_or_begins_like_another():
    for name in TITLES:
        assert sum(1 + (ord(letter) > 0x2E7F) for letter in title(name)) <= ROOM, title(name)
    assert len({title(name)[:10] for name in TITLES}) == len(TITLES)


def test_what_opens_in_app_mode_is_called_an_app():
    apps = {name for name in graphs.NAMES if graphs.saved(name)["extra"].get("linearMode")}
    assert apps == APPS == {name for name in graphs.NAMES if graphs.title(name).endswith(".app")}


@pytest.mark.parametrize("name", sorted(APPS))
def test_an_app_shows_widgets_and_results_that_are_there(name):
    saved = graphs.saved(name)
    nodes, shown = {node["id"]: node for node in saved["nodes"]}, saved["extra"]["linearData"]
    for number, widget in shown["inputs"]:
        assert widget in [entry["widget"]["name"] for entry in nodes[number]["inputs"] if "widget" in entry]
    chosen = [nodes[number]["title"] for number, widget in shown["inputs"] if widget == "image"]
    assert chosen == ["Portrait", "Style picture"], "an app without its pictures"
    assert not {"method", "preset"} & {widget for _, widget in shown["inputs"]}, "words of those who know the graph"
    assert [nodes[number]["type"] for number in shown["outputs"]] == ["SaveImage"]


@pytest.mark.parametrize("word", SEARCHED)
def test_the_demo_is_found_by_what_people_look_for(word):
    """The template browser searches names alone, by the beginnings of words, and in no other language."""
    assert word in graphs.title("demo_no_download").lower().split()


def test_files_have_names_that_every_system_takes():
    """Letters that no system spells in two ways, beside the demo's Chinese and Japanese in their composed form."""
    for path in (PACK / "workflows").iterdir():
        assert re.fullmatch(r"[A-Za-z0-9 ,().\u4e00-\u9fff\u30a1-\u30fc-]+", path.name), path.name
        assert unicodedata.normalize("NFC", path.name) == path.name


def test_a_workflow_without_a_title_is_named():
    with pytest.raises(KeyError, match="new_page has no title"):
        title("new_page")


def test_former_names_lead_to_the_files():
    text = (PACK / "workflows" / "README.md").read_text(encoding="utf-8")
    for name in graphs.NAMES:
        assert f"| `{name}` | [{graphs.title(name)}]" in text
