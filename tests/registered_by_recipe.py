"""A fusion method and an architecture made by the recipes of docs/architecture.md alone; then the core tier with them.

python tests/registered_by_recipe.py        in a process of its own, since a registry is the process's
"""

import sys
import types
from functools import partial
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[1]
METHOD, SUMMARY = "by_recipe", "the running picture and the style in one softmax"
ROW = f"| `{METHOD}` | a recipe | softmax([Q_t K_s', Q_t K_t']) [V_s; V_t] | `style_weight` |"
# of the core tier those that read a registry; nothing of the rest can tell that there is one more row
CORE = ("test_fusion.py", "test_keep.py", "test_method_docs.py")
ATTENTION = ("test_architectures.py", "test_transformer.py")
CORE_TIER = [str(PACK / "tests" / "core" / name) for name in CORE]
CORE_TIER += [str(PACK / "tests" / "attention_patches" / name) for name in ATTENTION]


def register_method():
    """Step 1 and 2 of the recipe: formula and row, the same formula in plain torch, what a mask keeps."""
    from magicstyle.core.attention import attend
    from magicstyle.core.fusion import FUSIONS, Method
    from magicstyle.core.sources import source, style_sources
    from magicstyle.tests.core import oracle

    def fuse(kernel, scene, settings):
        styles = style_sources(scene.with_styles_outside_keep, settings.style_weight)
        return attend(kernel, scene.live.q, [*styles, source(scene.live)])

    def rule(live, content, style, heads, done=0.0, t=1.0, w_s=1.0):
        shares = oracle.masses((w_s, style[1]), (1.0, live[1]))
        k, v = (oracle.cat(style[i], live[i]) for i in (1, 2))
        return oracle.dense_attention(live[0], k, v, heads, mass=shares)

    FUSIONS[METHOD] = Method(fuse, "", "kv", ("style_weight",), SUMMARY)
    oracle.RULES[METHOD] = rule


def register_architecture():
    """A class of the blocks that a network has, and its row."""
    from magicstyle.attention_patches import architectures
    from magicstyle.attention_patches.architectures.base import LayerFacts
    from magicstyle.attention_patches.architectures.transformer import Stack, Transformer

    class ByRecipe(Transformer):
        network = "nowhere.ByRecipe"
        stacks = (Stack("double", "blocks"),)

        def _facts(self, block):
            return LayerFacts(block.width, block.heads)

    architectures.KINDS += (ByRecipe,)
    return ByRecipe


class Registered:
    """What the collected test modules must know besides: the line in the docs, and the mask's rule."""

    def pytest_collection_modifyitems(self, items):
        for module in {item.module for item in items}:
            if module.__name__.endswith("test_method_docs"):
                module.PAGE = _Page(module.PAGE.read_text("utf-8"))
            if module.__name__.endswith("test_keep"):
                module.RULES[METHOD] = partial(keep_rule, module)


def keep_rule(module, kept):
    """The style acts as far as nothing is to be kept."""
    live, style = module.LIVE, module.STYLE
    shares = module.mass((1 - kept, style.k), (1.0, live.k))
    k, v = module.cat(style.k, live.k), module.cat(style.v, live.v)
    return module.dense_attention(live.q, k, v, module.HEADS, mass=shares)


class _Page:
    def __init__(self, text):
        self._text = text

    def read_text(self, encoding):
        head, bar, rest = self._text.partition("\n| `diffstyler` |")
        return f"{head}\n{ROW}{bar}{rest}"


def main():
    pack = types.ModuleType("magicstyle")
    pack.__path__ = [str(PACK)]
    sys.modules["magicstyle"] = pack
    register_method()
    kind = register_architecture()
    from magicstyle.attention_patches.architectures import kind_of

    network = type("ByRecipe", (), {"__module__": "nowhere", "blocks": [types.SimpleNamespace(width=8, heads=2)]})()
    assert kind_of(network) is kind and [str(layer) for layer in kind("ByRecipe", network).layers] == ["double.0.0"]
    return pytest.main(["-n", "0", "-q", "-p", "no:cacheprovider", *CORE_TIER], plugins=[Registered()])


if __name__ == "__main__":
    sys.exit(main())
