"""Write web/docs from the texts beside this file, the schemas of a running ComfyUI, and the names in locales.

python -m tools.help.build http://127.0.0.1:8188

A text has a place for {inputs}, which the schema knows, and the patcher's one for {methods}. The panel that shows the
pages is narrow: lists, no tables. English lies where every host looks, the other languages where newer ones do.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from magicstyle.core.fusion import FUSIONS

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "MagicStyle"
CHOICE = re.compile(r"([A-Za-z_]+)\s*[:\uff1a]\s*(.+)")
Info = dict[str, Any]


class Words(NamedTuple):
    """What a page says of itself."""

    inputs: str
    methods: str
    see_methods: str
    settings: str
    none: str


WORDS = {
    "en": Words("Inputs", "Methods", "see Methods, below", "reads", "none"),
    "zh": Words("\u8f93\u5165", "\u65b9\u6cd5", "\u89c1\u4e0b\u6587\u201c\u65b9\u6cd5\u201d", "\u8bfb\u53d6", "\u65e0"),
    "ja": Words(
        "\u5165\u529b",
        "\u624b\u6cd5",
        "\u4e0b\u306e\u300c\u624b\u6cd5\u300d\u3092\u53c2\u7167",
        "\u8a2d\u5b9a",
        "\u306a\u3057",
    ),
}


def pages(object_info: dict[str, Info]) -> dict[Path, str]:
    """Every help page of the pack, by its file."""
    nodes = {name: info for name, info in object_info.items() if name.startswith(PREFIX)}
    return {place(name, lang): page(name, info, lang) for name, info in nodes.items() for lang in WORDS}


def place(name: str, language: str) -> Path:
    """Where the host looks for a page."""
    docs = ROOT / "web" / "docs"
    return docs / f"{name}.md" if language == "en" else docs / name / f"{language}.md"


def page(name: str, info: Info, language: str) -> str:
    """One page, Markdown."""
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))[name]
    written = (ROOT / "tools" / "help" / language / f"{name}.md").read_text(encoding="utf-8")
    words, inputs = WORDS[language], texts.get("inputs", {})
    if "{methods}" in written:
        methods = "\n".join(_method(line, words) for line in _lines(inputs["method"]["tooltip"]))
        written = written.replace("{methods}", f"## {words.methods}\n\n{methods}")
        inputs = {**inputs, "method": {**inputs["method"], "tooltip": words.see_methods}}
    written = written.replace("{inputs}", f"## {words.inputs}\n\n{input_list(info, inputs)}")
    return f"# {texts['display_name']}\n\n{written}"


def input_list(info: Info, texts: dict[str, dict[str, str]]) -> str:
    """What the inputs are and begin with, one item each."""
    specs = {name: spec for kind in ("required", "optional") for name, spec in info["input"].get(kind, {}).items()}
    return "\n".join(_item(name, spec, texts[name]) for name, spec in specs.items())


def _item(name: str, spec: list[Any], text: dict[str, str]) -> str:
    title = f"**`{name}`**" if text["name"].lower() == name else f"**{text['name']}** (`{name}`)"
    default = spec[1].get("default") if len(spec) > 1 else None
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    begins = "" if default in (None, "") else f", {shown}"
    first, *more = text["tooltip"].split("\n")
    if more and CHOICE.fullmatch(first):
        first, more = "", [first, *more]
    return "\n".join([f"- {title}{begins}: {first}".rstrip(), *(f"  {line}" for line in _lines("\n".join(more)))])


def _method(line: str, words: Words) -> str:
    """A method's line with the settings that it reads, which the English tooltips name in words."""
    name, *_ = re.findall(r"\*\*(\w+)\*\*", line)
    knobs = ", ".join(f"`{knob}`" for knob in FUSIONS[name].knobs) or words.none
    what = line.partition("; reads ")[0].rstrip(".\u3002")
    return f"{what} ({words.settings}: {knobs})"


def _lines(text: str) -> Iterator[str]:
    for line in filter(None, text.split("\n")):
        choice = CHOICE.fullmatch(line)
        yield f"- **{choice[1]}**: {choice[2]}" if choice else f"- {line}"


def main(address: str) -> None:
    """Read the server, write the files."""
    with urllib.request.urlopen(f"{address.rstrip('/')}/object_info") as answer:
        found = pages(json.load(answer))
    for path, text in found.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
