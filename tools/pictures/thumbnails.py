"""Draw workflows/TITLE.jpg, which ComfyUI's template browser shows: the pair with which a workflow opens, painted as
the workflow paints.

    python -m tools.pictures.thumbnails [NAME ...]

The demo models paint at the settings with which a workflow opens, also in the place of SD1.5: minutes on one core, the
same pictures every time. Run it again when a demo model changes; without names it draws all cards. Workflows for models
that the pack has not run, or for what the demo model does not have, get a diagram (diagrams.py). What the workflows
without a checkpoint save is drawn by running them, in a ComfyUI of 0.33.0 or newer, which COMFYUI_PATH names.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from magicstyle.benchmarks.quality import STYLEID
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.headless.pictures.video import read_frames
from magicstyle.model_files.demo import DEMO_CLIP
from magicstyle.tests.host.locate import ADVICE, find_host
from magicstyle.tests.host.server import Server
from magicstyle.tests.workflows import graphs
from magicstyle.tools.workflows.build import WORKFLOWS
from magicstyle.tools.workflows.titles import title
from PIL import Image

from . import cards
from .diagrams import DIAGRAMS, diagram
from .parameters import ROOT
from .scenes import BACKGROUND, BALANCED, CROPPED, Look, Scene, ScenePainter, Way, region, shown

Card = Callable[[ScenePainter], Image.Image]
QUALITY, PATIENCE = 88, 1800.0  # of the file; seconds for a run on one core
BY, STAND_IN = "painted by the demo model", "painted by the small demo model"  # where a workflow is for SD1.5
CONTENT, STYLE, SECOND = "collins", "Hokusai", "van Gogh"  # with which the workflows open
ONE_BLOCK = Scene(CONTENT, (Look(STYLE),), way=BALANCED)
SHIPPED = Scene(CONTENT, (Look(STYLE),), way=CROPPED)
OTHER = SHIPPED._replace(content="hopper")
PERSON = SHIPPED._replace(looks=(Look(STYLE, "person"),))
REGIONAL = SHIPPED._replace(looks=(Look(STYLE, "person"), Look(SECOND, BACKGROUND)))
PUBLISHED = SHIPPED._replace(settings=STYLEID)
STRONG = SHIPPED._replace(settings=FusionSettings(query_preservation=0.0))
FILM = Way(20, InversionSettings(), (512, 512))
SOCKETS = ("model", "clip", "vae", "portrait", "style", "face mask")
KNOBS = (("style strength", "1.00"), ("likeness", "0.65"), ("quality/speed", "balanced"), ("method", "ffa"))
FIELDS = (("style strength", 1.0), ("likeness", 0.65), ("quality/speed", "balanced"), ("size", "512"))
CHECKPOINT = ("Checkpoint", "your SD1.5")
HEAD = (60, 20, 330, 320)  # of the portrait
FACE = (96, 60, 436, 372)  # of the portrait cropped to a square
SHOTS = (0, 4, 7)  # frames of the clip


def cropped(name: str) -> Image.Image:
    """A picture as the workflows for SD1.5 crop it."""
    return shown(name, CROPPED.size)


def demo_app(painter: ScenePainter) -> Image.Image:
    """One painting beside the form that made it."""
    pictures = ("Portrait", shown(CONTENT)), ("Style picture", shown(STYLE))
    return cards.form(painter.painted(ONE_BLOCK), pictures, FIELDS, BY)


def block_app(painter: ScenePainter) -> Image.Image:
    """The head of it beside the form, in which a checkpoint is chosen."""
    pictures = ("Portrait", shown(CONTENT)), ("Style picture", shown(STYLE))
    return cards.form(painter.painted(ONE_BLOCK).crop(HEAD), pictures, (CHECKPOINT, *FIELDS[:3]), STAND_IN)


def portrait(painter: ScenePainter) -> Image.Image:
    """Portrait and style picture, and large what comes out."""
    card = cards.flow([shown(CONTENT), shown(STYLE)], painter.painted(SHIPPED), STAND_IN)
    return cards.tagged(card, (((83, 200), "portrait"), ((83, 415), "style"), ((334, 395), "cropped to a square")))


def one_block(painter: ScenePainter) -> Image.Image:
    """The block in front of what it paints."""
    return cards.node("Stylize Portrait", SOCKETS, KNOBS, painter.painted(ONE_BLOCK), STAND_IN)


def folder(painter: ScenePainter) -> Image.Image:
    """Portraits of a folder, the one style, and what becomes of each."""
    painted = [painter.painted(scene) for scene in (SHIPPED, OTHER)]
    contents = [shown(scene.content) for scene in (SHIPPED, OTHER)]
    return cards.folder(contents, shown(STYLE), painted, "input/portraits", STAND_IN)


def background(painter: ScenePainter) -> Image.Image:
    """The photograph, the person as a mask, and the person alone painted."""
    mask = region(CONTENT, "person", CROPPED.size)
    pictures = (cropped(CONTENT), "photograph"), (mask, "mask"), (cropped(STYLE), "style")
    return cards.quarters((*pictures, (painter.painted(PERSON), "person painted")), STAND_IN)


def two_styles(painter: ScenePainter) -> Image.Image:
    """A style for the person, another for the background."""
    card = cards.large(painter.painted(REGIONAL), STAND_IN)
    card = cards.made_of(card, None, [cropped(STYLE), cropped(SECOND)])
    return cards.tagged(card, (((200, 405), "style 1: person"), ((340, 30), "style 2: background")))


def words(painter: ScenePainter) -> Image.Image:
    """A style for each of two words; the demo model reads no words, so that the regions are those of REGIONS."""
    one, other = (Image.new("RGB", CROPPED.size, colour) for colour in ("#e6b422", "#2f6db5"))
    veil = Image.composite(one, other, region(CONTENT, "person", CROPPED.size))
    seen = Image.blend(cropped(CONTENT), veil, 0.45)
    pictures = (seen, "person, background"), (painter.painted(REGIONAL), "result")
    styles = (cropped(STYLE), "style of the person"), (cropped(SECOND), "of the background")
    return cards.quarters((*pictures, *styles), "small demo model; regions painted by hand")


def saved_style(_: ScenePainter) -> Image.Image:
    """A style picture becomes a file."""
    card = cards.blank("a style, inverted once, as a file")
    cards.show(card, cropped(STYLE), (16, 90), (240, 240))
    cards.arrow(card, (270, 220), 326)
    cards.file(card, (396, 205), "style.safetensors")
    return card


def with_saved_style(painter: ScenePainter) -> Image.Image:
    """Portraits in the style of a file."""
    card = cards.blank(STAND_IN)
    cards.file(card, (86, 190), "style.safetensors")
    cards.arrow(card, (166, 200), 226)
    for number, scene in enumerate((SHIPPED, OTHER)):
        cards.show(card, painter.painted(scene), (240, 6 + 217 * number), (232, 213))
    return card


def published(painter: ScenePainter) -> Image.Image:
    """StyleID beside the pack's own method."""
    given = (cropped(CONTENT), "portrait"), (cropped(STYLE), "style")
    painted = (painter.painted(PUBLISHED), "StyleID"), (painter.painted(SHIPPED), "ffa, our default")
    return cards.quarters((*given, *painted), STAND_IN)


def kept_face(painter: ScenePainter) -> Image.Image:
    """The same strong style without and with a mask on the face."""
    face, portrait = region(CONTENT, "face", CROPPED.size), cropped(CONTENT)
    masked = Image.composite(Image.blend(portrait, Image.new("RGB", CROPPED.size), 0.7), portrait, face)
    both = [painter.painted(STRONG), painter.painted(STRONG._replace(keep="face"))]
    painted = [(picture.crop(FACE), words) for picture, words in zip(both, ("no mask", "face kept"), strict=True)]
    card = cards.quarters(((masked, "portrait, mask"), (cropped(STYLE), "style"), *painted), STAND_IN)
    return cards.tagged(card, (((361, 26), "query_preservation 0"),))


@contextmanager
def running() -> Iterator[Server]:
    """The ComfyUI that COMFYUI_PATH names."""
    host = find_host()
    if host is None:
        raise FileNotFoundError(ADVICE)
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
        yield server


def as_it_runs(name: str, words: str) -> Card:
    """What a workflow with the pack's pair saves when it runs untouched, in the ComfyUI that COMFYUI_PATH names."""

    def card(_: ScenePainter) -> Image.Image:
        """The picture, and what it was made of."""
        with running() as server:
            (saved,) = server.saved_images(server.run(graphs.api(name), PATIENCE))
        return cards.made_of(cards.large(Image.fromarray(saved), words), shown(CONTENT), [shown(STYLE)])

    return card


def frames(_: ScenePainter) -> Image.Image:
    """Frames of the clip that ships beside those of the video that the workflow saves."""
    with running() as server:
        (film,) = server.images(server.run(graphs.api("demo_film"), PATIENCE))
    every = list(read_frames(DEMO_CLIP))
    pairs = [(every[number], Image.fromarray(film[number])) for number in SHOTS]
    return cards.of_frames(pairs, shown(STYLE, (256, 256)), BY)


def filmed(painter: ScenePainter) -> Image.Image:
    """Frames of the same clip above those that the demo model paints at the settings of SD1.5."""
    every = list(read_frames(DEMO_CLIP))
    shots = [every[number].resize(FILM.size, Image.Resampling.LANCZOS) for number in SHOTS]
    return cards.strips(shots, painter.painted_frames(shots, STYLE, FILM), cropped(STYLE), STAND_IN)


def trained_loras(_: ScenePainter) -> Image.Image:
    """The LoRA of one painting on the person, that of another on the background, on which the user has painted."""
    masked, where = shown(CONTENT).convert("RGBA"), region(CONTENT, "person")
    masked.putalpha(where)  # as the mask editor saves it: clear where something was painted
    with running() as server:
        graph = graphs.for_host(server, graphs.with_pictures("demo_trained_loras"))
        server.upload(graphs.chosen("Portrait", masked=True), np.asarray(masked))
        for number, look in enumerate((STYLE, SECOND), start=1):
            server.upload(graphs.CHOSEN[f"Style picture {number}"], np.asarray(shown(look)))
        (saved,) = server.saved_images(server.run(graph, PATIENCE))
    card = cards.made_of(cards.large(Image.fromarray(saved), BY), shown(CONTENT), [shown(STYLE), shown(SECOND)])
    return cards.tagged(card, (((240, 405), "LoRA 1: person"), ((340, 30), "LoRA 2: background")))


CARDS: dict[str, Card] = {
    "demo_no_download": as_it_runs("demo_no_download", BY),
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
