"""What docs/architecture.md says of the sources, held against them."""

import ast
import re

import pytest
from magicstyle.tests.test_architecture import BENEATH, HOST, LAYERS, PACK, ROOMS, SOURCES, TOP, imports

PAGE = (PACK / "docs" / "architecture.md").read_text(encoding="utf-8")
MAP = PAGE.partition("## The map")[2].partition("## The words")[0]
FILES = {path.name for path in SOURCES} | {path.name for path in (PACK / "tools").rglob("*.py")}
FOLDERS = {path.parent.name for path in SOURCES} | {"tests", "tools", "benchmarks"}


def named(text):
    """The files and folders that a page names in code: with a folder before them, or by their names alone."""
    for code in re.findall(r"`([^`\n]+)`", text):
        for word in code.split():
            if re.fullmatch(r"[\w./]+\.(?:py|md|js|json|txt)|[a-z_]+/(?:[a-z_]+/)*", word):
                yield word


def is_there(name):
    """Whether the repository has it; a name alone is that of any file or folder of the product or of its tools."""
    if name.strip("/").count("/"):
        return (PACK / name).exists()
    return (
        name in FILES or name.strip("/") in FOLDERS or (PACK / name).exists() or (PACK / "locales/en" / name).exists()
    )


def test_every_file_that_the_page_names_is_there():
    names = sorted(set(named(PAGE)))
    assert len(names) > 50 and [name for name in names if not is_there(name)] == []


def test_a_file_that_is_gone_is_noticed():
    told = named("`core/fusion.py`, `ray_run.py` and `core/gone.py` in `comfy/`, not in `host/`")
    assert [name for name in told if not is_there(name)] == ["ray_run.py", "core/gone.py", "host/"]


def test_the_map_names_every_room_and_nothing_else():
    rooms = re.findall(r"^    ( *)([a-z_]+)/", MAP, re.MULTILINE)
    assert {name for indent, name in rooms if not indent} == {*LAYERS, "tools", "benchmarks"}
    assert {name for indent, name in rooms if indent} == {"architectures", "comfy", *ROOMS}


def test_the_map_says_who_is_on_top_of_headless_and_who_is_beneath():
    top, beneath = re.search(r"without ComfyUI: ([a-z_, ]+) on top; ([a-z_, ]+) beneath", MAP).groups()
    assert set(top.split(", ")) == TOP - {"__main__"} and set(beneath.split(", ")) == BENEATH


def test_core_reads_and_writes_no_file():
    found = {
        module.split(".")[0] for path in (PACK / "core").glob("*.py") for level, module in imports(path) if not level
    }
    assert not found & {"os", "io", "pathlib", "shutil", "tempfile", "json", "safetensors", "numpy", "PIL"}


def test_the_host_is_imported_in_comfy_and_nodes_alone():
    importing = {
        path.relative_to(PACK).as_posix()
        for path in SOURCES
        if any(not level and module.split(".")[0] in HOST for level, module in imports(path))
    }
    assert importing and all(name.startswith(("attention_patches/comfy/", "nodes/")) for name in importing)


READERS = ("capture.py", "fusion_patch.py", "replay.py", "word_maps.py")


@pytest.mark.parametrize("name", READERS)
def test_who_reads_attention_calls_knows_no_architecture_and_no_host(name):
    found = {module for level, module in imports(PACK / "attention_patches" / name) if level == 1}
    assert "call" in found and not found & {"seam", "entry"}
    assert not any(module.startswith(("architectures", "comfy")) for module in found)


def test_each_of_them_supplies_handlers():
    """Also the recorders of trajectories, which let the attention run as it does."""
    for name in READERS:
        tree = ast.parse((PACK / "attention_patches" / name).read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == "handlers" for node in ast.walk(tree)), name


def test_torch_is_pinned_for_tests():
    pinned = (PACK / "requirements-dev.txt").read_text(encoding="utf-8")
    assert re.search(r"^torch==\d", pinned, re.MULTILINE)
