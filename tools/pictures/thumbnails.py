"""Draw workflows/TITLE.jpg, which ComfyUI's template browser shows: a photograph painted as the workflow paints.

    python -m tools.pictures.thumbnails [NAME ...]

The demo model paints at the preset *fast*: minutes on one core, the same pictures every time. Run it again when the
demo model changes; without names it draws all cards. Workflows for models that the pack has not run, or for what the
demo model does not have, get a diagram (diagrams.py). The cards of the transformer and those of the demos without a
portrait need a ComfyUI of 0.5.0 or newer, which COMFYUI_PATH names.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from magicstyle.benchmarks.transformer import FlowPainter, FlowRecipe  # before diffusers

# isort: split
from . import cards
from .diagrams import DIAGRAMS, diagram
from .examples import EXAMPLES
from .parameters import ROOT
from .scenes import BACKGROUND, Look, Scene, ScenePainter, shown

# isort: split
import torch
from magicstyle.benchmarks.quality import FFA, to_images
from magicstyle.headless.pictures.reading import to_tensor
from magicstyle.tests.host.locate import ADVICE, find_host
from magicstyle.tests.host.server import Server
from magicstyle.tests.workflows import graphs
from magicstyle.tools.workflows.build import WORKFLOWS
from magicstyle.tools.workflows.titles import title
from PIL import Image

Card = Callable[[ScenePainter], Image.Image]
QUALITY, PATIENCE = 85, 1800.0  # of the file; seconds for a run on one core
BY = "painted by the demo model"
KNOBS = ("style strength", "likeness")
SHIPPED = Scene("collins", (Look("van Gogh"),))  # the pair that the demo begins with
PAINTED = {
    "demo_no_download": SHIPPED,
    "portrait_stylization": Scene("collins", (Look("Hokusai"),)),
    "stylize_portrait": Scene("hopper", (Look("ink"),)),
    **EXAMPLES,
}
APPS = {"demo_app": SHIPPED, "stylize_portrait_app": Scene("collins", (Look("halftone"),))}
FOLDER, LIBRARY = "hatching", "Arcimboldo"
WORDS = Scene("hopper", (Look("hall", "person"), Look("ink", BACKGROUND)))
STRONG = Scene("hopper", (Look("hatching"),), replace(FFA, query_preservation=0.4))


def alone(painter: ScenePainter, scene: Scene, words: str = BY) -> Image.Image:
    """One painting, and what it was made of."""
    card = cards.large(painter.painted(scene), words)
    return cards.made_of(card, shown(scene.content), [shown(look.style) for look in scene.looks])


def app(painter: ScenePainter, scene: Scene) -> Image.Image:
    """One painting beside the form that made it."""
    pictures = shown(scene.content), shown(scene.looks[0].style), painter.painted(scene)
    return cards.form(*pictures, KNOBS, BY)


def folder(painter: ScenePainter) -> Image.Image:
    """Portraits, one of them a painting, and below them what becomes of each in one style."""
    contents = ("collins", "hopper", "Tanguy")
    painted = [painter.painted(Scene(name, (Look(FOLDER),))) for name in contents]
    return cards.beside([*map(shown, contents), *painted], BY, columns=len(contents))


def words(painter: ScenePainter) -> Image.Image:
    """A style for each of two words; the demo model reads no words, so that the regions are those of REGIONS."""
    card = alone(painter, WORDS, "demo model; regions painted by hand")
    return cards.tagged(card, (((240, 400), "person"), ((405, 60), "background")))


def saved_style(painter: ScenePainter) -> Image.Image:
    """The style picture sampled back from its noise, which is the workflow's result."""
    card = cards.large(painter.returned(LIBRARY), "sampled back by the demo model")
    return cards.tagged(card, (((240, 400), "style.safetensors"),))


def with_saved_style(painter: ScenePainter) -> Image.Image:
    """Two portraits in the style of the card before."""
    card = cards.beside([painter.painted(Scene(name, (Look(LIBRARY),))) for name in ("collins", "hopper")], BY)
    return cards.tagged(cards.made_of(card, None, [shown(LIBRARY)]), (((240, 400), "style.safetensors"),))


def kept_face(painter: ScenePainter) -> Image.Image:
    """The same strong style without and with a mask on the face."""
    both = [painter.painted(STRONG), painter.painted(STRONG._replace(keep="face"))]
    return cards.tagged(cards.beside(both, BY), (((119, 405), "no mask"), ((361, 405), "face kept")))


def by_transformer(_: ScenePainter) -> Image.Image:
    """The demo's portrait in the style of its style picture, with the defaults, as the workflow paints it."""
    painter, looks = FlowPainter(FlowRecipe()), ("collins", "van Gogh")
    content, style = (to_tensor(shown(name)) / 2 + 0.5 for name in looks)
    both = painter.inverted(content, "content"), painter.inverted(style, "style")
    card = cards.large(to_images(painter.painted(*both, FFA))[0], "painted by the demo transformer")
    return cards.made_of(card, shown(looks[0]), [shown(looks[1])])


def as_it_runs(name: str, words: str) -> Card:
    """What a workflow with the pack's pair saves when it runs untouched, in the ComfyUI that COMFYUI_PATH names."""

    def card(_: ScenePainter) -> Image.Image:
        """The picture, and what it was made of."""
        host = find_host()
        if host is None:
            raise FileNotFoundError(ADVICE)
        with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
            (saved,) = server.saved_images(server.run(graphs.api(name), PATIENCE))
        return cards.made_of(cards.large(Image.fromarray(saved), words), shown("collins"), [shown("van Gogh")])

    return card


OTHERS: dict[str, Card] = {
    "portrait_folder": folder,
    "regions_from_words": words,
    "style_library_save": saved_style,
    "style_library_apply": with_saved_style,
    "keep_the_face": kept_face,
    "demo_transformer": by_transformer,
    "demo_variation": as_it_runs("demo_variation", BY),
    "demo_transformer_variation": as_it_runs("demo_transformer_variation", "painted by the demo transformer"),
}


def picture(painter: ScenePainter, name: str) -> Image.Image:
    """The card of a workflow."""
    if name in DIAGRAMS:
        return diagram(name)
    if name in PAINTED:
        return alone(painter, PAINTED[name])
    if name in APPS:
        return app(painter, APPS[name])
    if name not in OTHERS:
        raise KeyError(f"{name} has no card: give it a scene in thumbnails.py, or a diagram in diagrams.py.")
    return OTHERS[name](painter)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows as tools and tests call them; all, if none is named")
    torch.set_num_threads(1)
    painter = ScenePainter()
    for name in parser.parse_args().names or [workflow.name for workflow in WORKFLOWS]:
        target = ROOT / "workflows" / f"{title(name)}.jpg"
        picture(painter, name).save(target, quality=QUALITY, optimize=True)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    main()
