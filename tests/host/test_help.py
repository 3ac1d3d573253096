"""What users read about a node is there, in every language of the pack, and the server hands it out."""

import json
import re

import pytest
import requests
from magicstyle.core.fusion import FUSIONS
from magicstyle.core.inversion_methods import INVERSIONS
from magicstyle.nodes.schema import BEGINNERS, BEGINNING
from magicstyle.tests.browser.frontend import PACK_FOLDER
from magicstyle.tests.host.locate import PACK
from magicstyle.tools.help.build import pages, place
from magicstyle.tools.locales.english import english_texts

DOCS = PACK / "web" / "docs"
LANGUAGES = ("en", "zh", "ja")


@pytest.fixture(scope="module")
def nodes(server):
    return {name: info for name, info in server.object_info().items() if name.startswith("MagicStyle")}


def input_names(info):
    return [name for kind in ("required", "optional") for name in info["input"].get(kind, {})]


def read_texts(language):
    return json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def keys(texts):
    """The shape of a tree of texts."""
    return {name: keys(value) for name, value in texts.items()} if isinstance(texts, dict) else None


def empty_texts(texts, path=""):
    if isinstance(texts, dict):
        return [found for name, value in texts.items() for found in empty_texts(value, f"{path}/{name}")]
    return [] if texts.strip() else [path]


def test_every_node_has_a_help_page_in_every_language_and_every_page_a_node(nodes):
    assert {page.stem for page in DOCS.glob("*.md")} == nodes.keys()
    assert set(DOCS.rglob("*.md")) == {place(name, language) for name in nodes for language in LANGUAGES}


def test_help_pages_say_what_schemas_and_methods_say(nodes):
    """Written by `python -m tools.help.build ADDRESS`."""
    for path, text in pages(nodes).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not what tools.help writes"


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_pages_explain_every_input_by_its_name_in_lists(nodes, language):
    for name, info in nodes.items():
        page = place(name, language).read_text(encoding="utf-8")
        missing = [entry for entry in input_names(info) if not re.search(rf"^- \*\*.*`{entry}`", page, re.MULTILINE)]
        assert not missing, f"{name} in {language} lacks {missing}"
        assert not re.search(r"^\|", page, re.MULTILINE), "a table does not fit into the panel"
        assert page.startswith(f"# {read_texts(language)[name]['display_name']}\n")
        assert len(re.findall("^## ", page, re.MULTILINE)) >= 3 and "{" not in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pages_of_methods_name_each(language):
    for node, known in (("MagicStylePatchFFA", FUSIONS), ("MagicStyleInvertContent", INVERSIONS)):
        page = place(node, language).read_text(encoding="utf-8")
        assert known.keys() <= set(re.findall(r"^- \*\*(\w+)\*\*", page, re.MULTILINE))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_help_page_has_a_picture_of_its_node(nodes, language):
    for name in nodes:
        pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", place(name, language).read_text(encoding="utf-8"))
        assert f"pictures/{name}.png" in pictures
        for picture in pictures:  # the frontend looks from the folder of all pages, whatever the language
            assert 1000 < (DOCS / picture).stat().st_size < 60_000, picture


def test_server_hands_out_help_pages(server, nodes):
    for path in (place(name, language) for name in nodes for language in LANGUAGES):
        address = path.relative_to(DOCS).as_posix()
        answer = requests.get(f"{server.url}/extensions/{PACK_FOLDER}/docs/{address}", timeout=10)
        assert answer.ok and answer.content == path.read_bytes()


def test_every_input_and_output_has_a_tooltip(nodes):
    assert empty_texts(english_texts(nodes)) == []


def test_english_texts_are_those_of_the_schemas(nodes):
    """Written by `python -m tools.locales.english ADDRESS`."""
    assert read_texts("en") == english_texts(nodes)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_is_named_and_explained(nodes, language):
    texts = read_texts(language)
    assert keys(texts) == keys(english_texts(nodes))
    assert empty_texts(texts) == []


@pytest.mark.parametrize("name", ["MagicStylePatchFFA", "MagicStyleInvertContent", "MagicStyleInvertStyle"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_method_texts_name_every_method_on_a_line_of_its_own(nodes, language, name):
    tooltip = read_texts(language)[name]["inputs"]["method"]["tooltip"]
    kinds = nodes[name]["input"]
    options = {**kinds["required"], **kinds.get("optional", {})}["method"][1]["options"]
    assert [re.split("[:\uff1a]", line)[0] for line in tooltip.splitlines()] == options


def test_server_merges_the_languages(server):
    merged = server.get("i18n")
    for language in LANGUAGES:
        assert merged[language]["nodeDefs"].items() >= read_texts(language).items()


def test_search_aliases_are_given_where_the_host_knows_them(nodes):
    known = any("search_aliases" in info for info in nodes.values())
    assert not known or all(info["search_aliases"] for info in nodes.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_search_words_in_every_language(nodes, language):
    words = json.loads((PACK / "locales" / language / "search.json").read_text(encoding="utf-8"))
    assert words.keys() == {BEGINNING, *nodes}
    assert all(entry.strip() for listed in words.values() for entry in listed)
    for name, info in nodes.items():
        given = [*words[name], *(words[BEGINNING] if name in BEGINNERS else ())]
        assert set(given) <= set(info.get("search_aliases", given))
        assert name in BEGINNERS or not {*words[BEGINNING]} & {*info.get("search_aliases", ())}


RARE = {"storage", "precision", "storage_device", "roles", "corrections", "measure", "level_stride", "gamma"}
FOLDED = {
    "MagicStyleInvertContent": RARE,
    "MagicStyleInvertStyle": RARE,
    "MagicStylePatchFFA": {"start_percent", "end_percent", "positions", "high_frequencies", "low_frequencies"},
    "MagicStyleApplyRecipe": {"layers"},
    "MagicStyleControls": {"align_before_rotation", "rise", "other_axes", "match_weight", "frames_together", "detail"},
    "MagicStyleGuidance": {"start_percent", "end_percent"},
    "MagicStyleInitialLatent": {"frames_together"},
}


def test_widgets_that_are_rarely_changed_are_folded_where_the_host_can(nodes):
    """Since ComfyUI 0.10; words for the search came with 0.11."""
    knows = any("search_aliases" in info for info in nodes.values())
    for name, info in nodes.items():
        kinds = (info["input"].get(kind, {}) for kind in ("required", "optional"))
        folded = {entry for kind in kinds for entry, spec in kind.items() if spec[1].get("advanced")}
        assert folded == (FOLDED.get(name, set()) if knows else set())
