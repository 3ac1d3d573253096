"""The direction of imports, and other promises about the sources that a linter does not know."""

import ast
import sys
from pathlib import Path

import pytest
from magicstyle.tests.axes import names_axes, silent_functions

PACK = Path(__file__).resolve().parents[1]
# who may import whom, within the pack
LAYERS = {
    "core": {"core"},
    "attention_patches": {"core", "attention_patches"},
    "model_files": {"core", "model_files"},
    "picture_files": {"core", "picture_files"},
    "nodes": {"core", "attention_patches", "model_files", "picture_files", "nodes"},
    "headless": {"core", "attention_patches", "model_files", "picture_files", "headless"},
}
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
    "attention_patches/host": RUNTIME | HOST,
    "model_files": RUNTIME,
    "picture_files": RUNTIME | {"PIL", "pillow_heif"},
    "nodes": RUNTIME | HOST | {"tqdm", "PIL"},
    "headless": RUNTIME | {"diffusers", "transformers", "torchvision", "PIL", "tqdm", "fsspec", "ray"},
}
SOURCES = sorted(path for layer in LAYERS for path in (PACK / layer).rglob("*.py"))


def imports(path):
    """(level, dotted module) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def layer_of(path, level, module):
    """The pack's layer that a relative import reaches."""
    package = path.relative_to(PACK).parent.parts
    return (*package[: len(package) - (level - 1)], *module.split("."))[0]


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


def test_the_root_package_imports_nothing_of_the_host_by_itself():
    tree = ast.parse((PACK / "__init__.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in top} == {"__future__", "typing"}


@pytest.mark.parametrize("path", [PACK / "__init__.py", *SOURCES], ids=lambda path: str(path.relative_to(PACK)))
def test_sources_are_plain_ascii(path):
    path.read_text(encoding="ascii")


# how the host names blocks, patches and options: for architectures, the seam and host/ alone
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
KNOWERS = ("attention_patches/architectures", "attention_patches/host", "attention_patches/seam.py")


@pytest.mark.parametrize(
    "path",
    [
        path
        for layer in ("core", "attention_patches", "model_files", "picture_files", "headless")
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

def asked(model: Callable[[Tensor], Tensor], files: Mapping[str, Tensor]) -> None:
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


MOST_LINES, LONGEST_FUNCTION = 300, 40


def long_functions(source):
    """Functions of more lines than a screen; the schemas of nodes, and what lists their inputs, are tables."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    long = [function for function in functions if function.end_lineno - function.lineno + 1 > LONGEST_FUNCTION]
    return [function.name for function in long if function.name not in ("define_schema", "_inputs")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACK)))
def test_files_and_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MOST_LINES and long_functions(source) == []


def test_a_long_function_is_seen_and_a_schema_is_none():
    body = "    x = 1\n" * LONGEST_FUNCTION
    assert long_functions(f"def f():\n{body}\ndef define_schema():\n{body}") == ["f"]
    assert long_functions(f"def f():\n{body[10:]}") == []
