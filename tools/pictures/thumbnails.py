"""Draw workflows/TITLE.jpg, which ComfyUI's template browser shows: the pair with which a workflow opens, painted as
the workflow paints.

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

import numpy as np
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.benchmarks.quality import STYLEID
from magicstyle.core.adain import adain_map
from magicstyle.core.fusion import FusionSettings
from magicstyle.headless.engine.stylize import invert, paint
from magicstyle.headless.pictures.reading import to_tensor
from magicstyle.headless.pictures.video import read_frames
from magicstyle.model_files.demo import DEMO_CLIP
from magicstyle.tests.host.locate import ADVICE, find_host
from magicstyle.tests.host.server import Server
from magicstyle.tests.workflows import graphs
from magicstyle.tools.workflows.build import WORKFLOWS
from magicstyle.tools.workflows.titles import title
from PIL import Image, ImageChops

from . import cards
from .diagrams import DIAGRAMS, diagram
from .examples import STRONG
from .parameters import ROOT, SIZE
from .scenes import BACKGROUND, Look, Scene, ScenePainter, region, shown

Card = Callable[[ScenePainter], Image.Image]
QUALITY, PATIENCE = 85, 1800.0  # of the file; seconds for a run on one core
BY, IN_PLACE = "painted by the demo model", "painted here by the demo model, not SD1.5"
CONTENT, STYLE, SECOND = "collins", "Hokusai", "van Gogh"  # with which the workflows open
SHIPPED = Scene(CONTENT, (Look(STYLE),))
PERSON = Scene(CONTENT, (Look(STYLE, "person"),))
REGIONAL = Scene(CONTENT, (Look(STYLE, "person"), Look(SECOND, BACKGROUND)))
PUBLISHED = SHIPPED._replace(settings=STYLEID)
SOCKETS = ("model", "clip", "vae", "portrait", "style", "face mask")
KNOBS = (("style strength", "1.00"), ("likeness", "0.65"), ("quality/speed", "balanced"), ("method", "ffa"))
FIELDS = (("style strength", 1.0), ("likeness", 0.65), ("quality/speed", "balanced"), ("size", "512"))
CHECKPOINT = ("Checkpoint", "your SD1.5")
HEAD = (60, 20, 330, 320)  # of the portrait
SHOTS = (0, 4, 7)  # frames of the clip


def demo(painter: ScenePainter) -> Image.Image:
    """One painting, and what it was made of."""
    card = cards.large(painter.painted(SHIPPED), BY)
    return cards.made_of(card, shown(CONTENT), [shown(STYLE)])


def demo_app(painter: ScenePainter) -> Image.Image:
    """One painting beside the form that made it."""
    pictures = ("Portrait", shown(CONTENT)), ("Style picture", shown(STYLE))
    return cards.form(painter.painted(SHIPPED), pictures, FIELDS, BY)


def block_app(painter: ScenePainter) -> Image.Image:
    """The head of it beside the form, in which a checkpoint is chosen."""
    pictures = ("Portrait", shown(CONTENT)), ("Style picture", shown(STYLE))
    return cards.form(painter.painted(SHIPPED).crop(HEAD), pictures, (CHECKPOINT, *FIELDS[:3]), IN_PLACE)


def portrait(painter: ScenePainter) -> Image.Image:
    """Portrait and style picture, and large what comes out."""
    card = cards.flow([shown(CONTENT), shown(STYLE)], painter.painted(SHIPPED), IN_PLACE)
    return cards.tagged(card, (((83, 200), "portrait"), ((83, 415), "style"), ((335, 415), "SD1.5, 512 pixels")))


def one_block(painter: ScenePainter) -> Image.Image:
    """The block in front of what it paints."""
    return cards.node("Stylize Portrait", SOCKETS, KNOBS, painter.painted(SHIPPED), IN_PLACE)


def folder(painter: ScenePainter) -> Image.Image:
    """Portraits of a folder, the one style, and what becomes of each."""
    contents = CONTENT, "hopper"
    painted = [painter.painted(SHIPPED._replace(content=name)) for name in contents]
    return cards.folder([shown(name) for name in contents], shown(STYLE), painted, "input/portraits", IN_PLACE)


def background(painter: ScenePainter) -> Image.Image:
    """The photograph, and the person alone painted."""
    card = cards.beside([shown(CONTENT), painter.painted(PERSON)], IN_PLACE)
    card = cards.tagged(card, (((119, 405), "photograph"), ((361, 30), "background kept")))
    return cards.made_of(card, None, [shown(STYLE)])


def two_styles(painter: ScenePainter) -> Image.Image:
    """A style for the person, another for the background."""
    card = cards.large(painter.painted(REGIONAL), IN_PLACE)
    card = cards.made_of(card, None, [shown(STYLE), shown(SECOND)])
    return cards.tagged(card, (((200, 405), "style 1: person"), ((340, 30), "style 2: background")))


def words(painter: ScenePainter) -> Image.Image:
    """A style for each of two words; the demo model reads no words, so that the regions are those of REGIONS."""
    one, other = (Image.new("RGB", SIZE, colour) for colour in ("#e6b422", "#2f6db5"))
    veil = Image.composite(one, other, region(CONTENT, "person"))
    pictures = [Image.blend(shown(CONTENT), veil, 0.45), painter.painted(REGIONAL)]
    card = cards.beside(pictures, "demo model; regions painted by hand")
    return cards.tagged(
        card, (((240, 86), "words:  person, background"), ((119, 405), "regions"), ((361, 405), "result"))
    )


def saved_style(_: ScenePainter) -> Image.Image:
    """A style picture becomes a file."""
    card = cards.blank("a style, inverted once, as a file")
    cards.show(card, shown(STYLE), (16, 60), (240, 320))
    cards.arrow(card, (270, 220), 326)
    cards.file(card, (396, 205), "style.safetensors")
    return card


def with_saved_style(painter: ScenePainter) -> Image.Image:
    """Portraits in the style of a file."""
    card = cards.blank(IN_PLACE)
    cards.file(card, (86, 190), "style.safetensors")
    cards.arrow(card, (166, 200), 226)
    for number, name in enumerate((CONTENT, "hopper")):
        cards.show(card, painter.painted(SHIPPED._replace(content=name)), (240, 6 + 217 * number), (232, 213))
    return card


def published(painter: ScenePainter) -> Image.Image:
    """StyleID beside the pack's own method."""
    card = cards.beside([painter.painted(PUBLISHED), painter.painted(SHIPPED)], IN_PLACE)
    return cards.tagged(card, (((119, 405), "StyleID"), ((361, 405), "ffa, our default")))


def kept_face(painter: ScenePainter) -> Image.Image:
    """The same strong style without and with a mask on the face."""
    both = [painter.painted(STRONG), painter.painted(STRONG._replace(keep="face"))]
    tags = ((119, 405), "no mask"), ((361, 405), "face kept")
    return cards.tagged(cards.beside([picture.crop(HEAD) for picture in both], IN_PLACE), tags)


def as_it_runs(name: str, words: str) -> Card:
    """What a workflow with the pack's pair saves when it runs untouched, in the ComfyUI that COMFYUI_PATH names."""

    def card(_: ScenePainter) -> Image.Image:
        """The picture, and what it was made of."""
        host = find_host()
        if host is None:
            raise FileNotFoundError(ADVICE)
        with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
            (saved,) = server.saved_images(server.run(graphs.api(name), PATIENCE))
        return cards.made_of(cards.large(Image.fromarray(saved), words), shown(CONTENT), [shown(STYLE)])

    return card


@torch.inference_mode()
def frames(painter: ScenePainter) -> Image.Image:
    """Frames of the clip that ships, painted as one batch with the first one's mean and spread."""
    every, look = list(read_frames(DEMO_CLIP)), STYLE
    shots, style = [every[number] for number in SHOTS], painter.inverted(look)
    recipe = replace(painter.recipe, settings=FusionSettings(query_preservation=1.0))
    film = invert(painter.model, painter.model.encode(torch.cat([to_tensor(shot) for shot in shots])), recipe)
    start = film.noise_pair.map(adain_map(film.noise[:1], style.noise))
    latents = paint(painter.model, FeatureBank(film.features, (StyleEntry(style.features),)), start, recipe)
    return cards.of_frames(shots, [painter.decoded(latent) for latent in latents.split(1)], shown(look))


def filmed(_: ScenePainter) -> Image.Image:
    """The same of docs/film.webp, in which the clip and its painting stand side by side."""
    with Image.open(ROOT / "docs" / "film.webp") as both:
        halves = []
        for number in SHOTS:
            both.seek(number)
            frame, middle = both.convert("RGB"), both.width // 2
            halves.append((frame.crop((0, 0, middle, both.height)), frame.crop((middle, 0, *both.size))))
    return cards.of_frames(*zip(*halves, strict=True), shown(SECOND))


def trained_loras(_: ScenePainter) -> Image.Image:
    """The LoRA of one painting on the background, that of another on the person, on whom the user has painted."""
    host = find_host()
    if host is None:
        raise FileNotFoundError(ADVICE)
    masked = shown(CONTENT).convert("RGBA")
    masked.putalpha(ImageChops.invert(region(CONTENT, "person")))  # as the mask editor saves it
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
        graph = graphs.for_host(server, graphs.with_pictures("demo_trained_loras"))
        server.upload(graphs.chosen("Portrait", masked=True), np.asarray(masked))
        for number, look in enumerate((SECOND, STYLE), start=1):
            server.upload(graphs.CHOSEN[f"Style picture {number}"], np.asarray(shown(look)))
        (saved,) = server.saved_images(server.run(graph, PATIENCE))
    return cards.made_of(cards.large(Image.fromarray(saved), BY), shown(CONTENT), [shown(SECOND), shown(STYLE)])


CARDS: dict[str, Card] = {
    "demo_no_download": demo,
    "demo_app": demo_app,
    "portrait_stylization": portrait,
    "stylize_portrait_app": block_app,
    "stylize_portrait": one_block,
    "demo_film": frames,
    "video_frames": filmed,
    "portrait_folder": folder,
    "portrait_keep_background": background,
    "two_styles_by_mask": two_styles,
    "regions_from_words": words,
    "style_library_save": saved_style,
    "style_library_apply": with_saved_style,
    "styleid": published,
    "keep_the_face": kept_face,
    "demo_transformer": as_it_runs("demo_transformer", "painted by the demo transformer"),
    "demo_variation": as_it_runs("demo_variation", BY),
    "demo_trained_loras": trained_loras,
    "demo_transformer_variation": as_it_runs("demo_transformer_variation", "painted by the demo transformer"),
}


def picture(painter: ScenePainter, name: str) -> Image.Image:
    """The card of a workflow."""
    if name in DIAGRAMS:
        return diagram(name)
    if name not in CARDS:
        raise KeyError(f"{name} has no card: give it one in thumbnails.py, or a diagram in diagrams.py.")
    return CARDS[name](painter)


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
