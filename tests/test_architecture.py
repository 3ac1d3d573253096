"""The direction of imports, and other promises about the sources that a linter does not know."""

import ast
import sys
from pathlib import Path

import pytest
from magicstyle.tests.axes import names_axes, silent_functions

PACK = Path(__file__).resolve().parents[1]
# the large rooms: who may import whom, within the pack
LAYERS = {
    "core": {"core"},
    "banks": {"core", "banks"},
    "attention_patches": {"core", "banks", "attention_patches"},
    "model_files": {"core", "model_files"},
    "picture_files": {"core", "picture_files"},
    "nodes": {"core", "banks", "attention_patches", "model_files", "picture_files", "nodes"},
    "headless": {"core", "banks", "attention_patches", "model_files", "picture_files", "headless"},
}
# the rooms of headless: the command is on top, a few files that know none of the rooms beneath all of them
TOP = {"__main__", "cli", "command", "options", "choices", "option_table"}
BENEATH = {"console", "digest", "exit", "failure", "skipped", "uris", "version"}
ROOMS = {
    "pictures": set(),
    "engine": {"pictures"},
    "pairs": {"engine", "pictures"},
    "campaign": {"engine", "pictures"},
}
# how a run over stores reads the options that both kinds of runs have
READ_BY_CAMPAIGN = {"choices", "option_table"}
HOST = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "comfyui_version",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "server",
}
RUNTIME = {"torch", "safetensors", "numpy", "einops"}
MAY_IMPORT = {
    "core": RUNTIME,
    "attention_patches": RUNTIME,
    "banks": RUNTIME,
    "attention_patches/comfy": RUNTIME | HOST,
    "model_files": RUNTIME,
    "picture_files": RUNTIME | {"PIL", "pillow_heif"},
    "nodes": RUNTIME | HOST | {"tqdm", "PIL"},
    "headless": RUNTIME | {"diffusers", "transformers", "torchvision", "PIL", "tqdm", "fsspec", "ray", "av"},
}
SOURCES = sorted(path for layer in LAYERS for path in (PACK / layer).rglob("*.py"))


def imports(path):
    """(level, dotted module) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def reached(path, level, module):
    """The parts of what a relative import names, from the pack on."""
    package = path.relative_to(PACK).parent.parts
    return (*package[: len(package) - (level - 1)], *filter(None, module.split(".")))


def layer_of(path, level, module):
    """The pack's layer that a relative import reaches."""
    return reached(path, level, module)[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACK)))
def test_imports_point_one_way(path):
    layer = path.relative_to(PACK).parts[0]
    allowed = MAY_IMPORT.get(path.relative_to(PACK).parent.as_posix(), MAY_IMPORT[layer]) | set(sys.stdlib_module_names)
    for level, module in imports(path):
        if level:
            assert layer_of(path, level, module) in LAYERS[layer], f"{path.name} imports {module} upwards"
        else:
            assert module.split(".")[0] in allowed, f"{path.name} imports {module}"


def test_the_rule_sees_an_upward_import(tmp_path):
    assert layer_of(PACK / "core" / "x.py", 2, "nodes.patcher") == "nodes"
    assert layer_of(PACK / "nodes" / "x.py", 1, "sockets") == "nodes"


def room_of(parts):
    """The room of headless that a module is in: a folder, else its own name."""
    return parts[1] if len(parts) > 1 else "__init__"


def may_reach(source, target):
    """Whether a module in one room of headless may import one in another."""
    if source in TOP:
        return True
    if source in BENEATH:
        return target in BENEATH
    within = {source, *ROOMS[source], *BENEATH} | (READ_BY_CAMPAIGN if source == "campaign" else set())
    return target in within


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.relative_to(PACK).parts[0] == "headless" and path.stem != "__init__"],
    ids=lambda path: str(path.relative_to(PACK)),
)
def test_rooms_of_headless_know_those_that_the_drawing_says(path):
    room = room_of(path.relative_to(PACK).with_suffix("").parts)
    assert room in {*TOP, *BENEATH, *ROOMS}, f"{path.name} is in no room: say in this test who may know it"
    for level, module in imports(path):
        if level and (parts := reached(path, level, module))[0] == "headless":
            assert may_reach(room, room_of(parts)), f"{path.name} imports {'.'.join(parts)}"


def test_the_rule_of_rooms_sees_what_it_forbids():
    allowed = [("pairs", "engine"), ("campaign", "choices"), ("command", "campaign"), ("engine", "console")]
    forbidden = [("campaign", "pairs"), ("pairs", "campaign"), ("engine", "pairs"), ("engine", "choices")]
    assert all(may_reach(*pair) for pair in allowed) and not any(may_reach(*pair) for pair in forbidden)


def modules():
    """Every module of the product, as its parts -> the modules that it imports, inside functions too."""
    files = {path.relative_to(PACK).with_suffix("").parts: path for path in SOURCES}
    known = {parts[:-1] if parts[-1] == "__init__" else parts: path for parts, path in files.items()}
    for parts, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = reached(path, node.level, node.module or "")
                found |= {(*base, alias.name) if (*base, alias.name) in known else base for alias in node.names}
        yield parts, found & known.keys() - {parts}


def circle_in(graph):
    """Some modules that import each other in a ring, empty where there are none."""
    graph = {module: set(targets) for module, targets in graph.items()}
    while leaves := [module for module, targets in graph.items() if not targets & graph.keys()]:
        for module in leaves:
            del graph[module]
    return sorted(".".join(module) for module in graph)


def test_no_modules_import_each_other_in_a_ring():
    assert circle_in(dict(modules())) == []


def test_a_ring_is_seen():
    assert circle_in({("a",): {("b",)}, ("b",): {("a",)}, ("c",): {("a",)}, ("d",): set()}) == ["a", "b", "c"]


def test_the_root_package_imports_nothing_of_the_host_by_itself():
    tree = ast.parse((PACK / "__init__.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in top} == {"__future__", "typing"}


@pytest.mark.parametrize("path", [PACK / "__init__.py", *SOURCES], ids=lambda path: str(path.relative_to(PACK)))
def test_sources_are_plain_ascii(path):
    path.read_text(encoding="ascii")


# how the host names blocks, patches and options: for architectures, the seam and comfy/ alone
HOST_WORDS = {
    "attn1_patch",
    "attn1_output_patch",
    "output_block_patch",
    "patches_replace",
    "activations_shape",
    "original_shape",
    "block_index",
    "cond_or_uncond",
    "uuids",
    "skip_reshape",
    "optimized_attention_override",
    "transformer_options",
}
KNOWERS = ("attention_patches/architectures", "attention_patches/comfy", "attention_patches/seam.py")


@pytest.mark.parametrize(
    "path",
    [
        path
        for layer in LAYERS
        for path in sorted((PACK / layer).rglob("*.py"))
        if not path.relative_to(PACK).as_posix().startswith(KNOWERS)
    ],
    ids=lambda path: str(path.relative_to(PACK)),
)
def test_only_architectures_the_seam_and_host_know_the_hosts_words(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not HOST_WORDS & found


@pytest.mark.parametrize(
    "path",
    # of what passes through nodes/ the host's sockets say the axes
    [path for path in SOURCES if path.relative_to(PACK).parts[0] != "nodes"],
    ids=lambda path: str(path.relative_to(PACK)),
)
def test_every_function_names_the_axes_of_its_tensors(path):
    """In the docstring, in a comment of the signature, or by einops in its own body; closures and methods, too."""
    silent = [f"{name} (line {line})" for name, line in silent_functions(path.read_text(encoding="utf-8"))]
    assert not silent, f"{path.name}: say the axes, as in 'x b c h w -> b n c', of {', '.join(silent)}"


NAMED = [
    "x b n (h d) -> b n c",
    "The rows n c.",
    "Levels: n -> n - 1",
    "A mask b h w in [0, 1]",
    "-> 1 H W 3",
    "of any shape",
]
UNNAMED = [
    "A tensor.",
    "One call of a kernel, given a k",
    "What is b, and why",
    "in a d way",
    "a mask of a style",
    "The b of it",
]


def test_axes_are_told_from_words():
    assert [text for text in NAMED if not names_axes(text)] == []
    assert [text for text in UNNAMED if names_axes(text)] == []


SILENT = '''
def outer(x: Tensor) -> Tensor:
    """Moves x b c h w."""
    def inner(y: Tensor) -> Tensor:
        return rearrange(y, pattern)
    return inner(x)

def moved(x: Tensor) -> Tensor:
    return rearrange(x, "b n c -> b c n")

def called(model: Callable[[Tensor], Tensor], files: Mapping[str, Tensor]) -> None:
    """Neither holds a tensor of one shape."""

def several(parts: list[Tensor] | None) -> None:
    """Some tensors."""

def remarked(
    x: Tensor,  # b n c
) -> None:
    """One tensor."""
'''


def test_a_closure_does_not_speak_for_the_function_around_it_nor_the_other_way_round():
    assert [name for name, _ in silent_functions(SILENT)] == ["several", "inner"]


# more than 300 lines in a file, or 40 in a function, is a question in review; this is where it ends
MAX_LINES, LONGEST_FUNCTION = 400, 60
TABLES = ("define_schema", "_inputs")  # schemas of nodes, and what lists their inputs


def long_functions(source):
    """Functions of more lines than anyone reads at once; tables are none."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    long = [function for function in functions if function.end_lineno - function.lineno + 1 > LONGEST_FUNCTION]
    return [function.name for function in long if function.name not in TABLES]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACK)))
def test_files_and_functions_can_be_read(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES and long_functions(source) == []


def test_a_long_function_is_seen_and_a_schema_is_none():
    body = "    x = 1\n" * LONGEST_FUNCTION
    assert long_functions(f"def f():\n{body}\ndef define_schema():\n{body}") == ["f"]
    assert long_functions(f"def f():\n{body[10:]}") == []


def classes(paths):
    """The name of every class in some files, functions searched too -> the files that have it."""
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(path)
    return found


def test_no_two_classes_of_the_product_have_one_name():
    assert {name: paths for name, paths in classes(SOURCES).items() if len(paths) > 1} == {}


def test_the_rule_of_names_sees_two_classes_of_one_name(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("class Plan: ...\nclass Unit: ...\n", encoding="utf-8")
    other.write_text("def f():\n    class Plan: ...\n", encoding="utf-8")
    assert classes([one, other]) == {"Plan": [one, other], "Unit": [one]}
