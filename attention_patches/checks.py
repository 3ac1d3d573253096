"""Does the bank fit the model, and the run fit the bank? One clear sentence where it does not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..banks.bank import FeatureBank
from ..banks.image_features import FeatureHeader, ImageFeatures
from ..core.detail import begins_decoder_block
from ..core.errors import MagicStyleError
from ..core.features import DETAIL
from ..core.fusion import FusionSettings
from ..core.grid import Grid
from ..core.layers import LayerId, misnamed, select_layers
from ..core.word_regions import StyleWords
from .architectures import BLOCKS, Architecture
from .architectures.base import HostArchitecture

AUTO = "auto"
GROUPED = "rsa"  # the method whose styles may act where words are seen
ROLE_NAMES = {"q": "queries", "k": "keys", "v": "values"}


def check_bank(architecture: Architecture, bank: FeatureBank) -> None:
    """Refuse features of another architecture."""
    running, stored = architecture.id, bank.pictures[0].header.model
    if running.digest != stored.digest:
        raise MagicStyleError(
            f"bank holds features of another model ({stored.name}) than the one to patch ({running.name}): "
            "invert both pictures with the checkpoint that you sample with."
        )
    for features in bank.pictures:
        _check_layers(architecture, features)


def _check_layers(architecture: Architecture, features: ImageFeatures) -> None:
    """Layers, heads and widths as the model has them: a file may say one model and hold another's."""
    header, widths = features.header, features.widths
    for layer in header.layers:
        facts = architecture.layers.get(layer)
        if facts is None or (widths.get(layer, facts.width), header.heads.get(layer, facts.heads)) != facts:
            raise MagicStyleError(
                f"bank holds features for {layer} that do not fit {architecture.name}: invert the picture again with "
                "the checkpoint that you sample with."
            )


def stored_layers(
    architecture: Architecture, bank: FeatureBank, layers: str, *, others: bool = False
) -> tuple[LayerId, ...]:
    """The chosen layers, all of which the bank must hold; with `others`, auto means those that auto else leaves out."""
    if others and layers.strip().lower() == AUTO:
        return _other_layers(architecture, bank)
    chosen = select_layers(named(layers, architecture.fused_layers), architecture.layers)
    missing = [str(layer) for layer in chosen if layer not in bank.layers]
    if missing:
        raise MagicStyleError(
            f"layers '{layers}' includes {', '.join(missing)}, which the bank does not hold: "
            "choose the same or more layers on both DDIM Inversion nodes."
        )
    return chosen


def _other_layers(architecture: Architecture, bank: FeatureBank) -> tuple[LayerId, ...]:
    """What the bank holds of the layers that auto leaves out; all of them in a model whose every layer is fused."""
    every = select_layers("all", architecture.layers)
    fused = select_layers(architecture.fused_layers, architecture.layers)
    if len(fused) == len(every):
        return stored_layers(architecture, bank, AUTO)
    found = tuple(layer for layer in bank.layers if layer not in fused)
    if not found:
        raise MagicStyleError(
            "layers auto means for this method the layers in which the other patcher's auto does not act, and the bank "
            "holds none of them: set layers to all on both DDIM Inversion nodes."
        )
    return found


def check_layer_text(name: str, text: str) -> None:
    """Refuse, before there is a model, what names a layer of none."""
    if text.strip().lower() != AUTO and (part := misnamed(text, BLOCKS)) is not None:
        raise MagicStyleError(
            f"{name}: '{part.strip()}' is not a layer; write auto, all, or a block and its numbers, such as "
            "output.6-11, middle, double.0-18, single."
        )


def named(layers: str, default: str) -> str:
    """The layers that a user names, or a kind of model's own."""
    return default if layers.strip().lower() == AUTO else layers


def check_roles(bank: FeatureBank, roles: Sequence[str], method: str) -> None:
    """Refuse pictures that lack roles which the method reads of them."""
    for number, (features, wanted) in enumerate(zip(bank.pictures, roles, strict=True)):
        missing = [name for role, name in ROLE_NAMES.items() if role in wanted and role not in features.roles]
        if missing:
            name = bank.name(number)
            raise MagicStyleError(
                f"method '{method}' reads the {name}'s {' and '.join(missing)}, which the bank does not hold: "
                "set roles to all on the DDIM Inversion node."
            )
        if DETAIL in wanted and DETAIL not in features.roles:
            raise MagicStyleError(
                "detail of Style Controls reads what the content's ResNets add, which the bank does not hold: set "
                "roles to 'all and detail', or storage to latents, on DDIM Inversion (Content), or detail to 0."
            )


def check_detail(bank: FeatureBank, settings: FusionSettings, layers: Collection[LayerId]) -> None:
    """Refuse the portrait's detail where there is no portrait, or no chosen layer lies behind a decoder's ResNet."""
    if settings.controls.detail == 0.0:
        return
    if bank.content is None:
        raise MagicStyleError(
            "detail of Style Controls adds that of a portrait, and the bank has none: set detail to 0, or connect "
            "content to the Feature Bank."
        )
    if not any(begins_decoder_block(layer) for layer in layers):
        raise MagicStyleError(
            "detail of Style Controls acts in a UNet's ResNets before the first transformer of an output block, and "
            f"layers {', '.join(map(str, layers))} hold none of these: set detail to 0, or choose layers such as "
            "output.6-11 of SD1.5 or output.0-5 of SDXL."
        )


def check_words(
    architecture: HostArchitecture, bank: FeatureBank, settings: FusionSettings, words: StyleWords | None
) -> None:
    """Refuse words for styles where the model shows none, the method is another, or there are not as many."""
    if words is None:
        return
    if not architecture.shows_words:
        raise MagicStyleError(
            f"Words for Styles cannot be seen in {architecture.name}, since words are found by the cross-attention of "
            "a Stable Diffusion UNet: connect an SD1.5, SD2.1 or SDXL checkpoint, or give each style a region."
        )
    if settings.method != GROUPED:
        raise MagicStyleError(
            f"Words for Styles act in method {GROUPED} alone, and method is {settings.method}: choose {GROUPED}, or "
            "disconnect them from controls."
        )
    if len(words.spans) != len(bank.styles):
        raise MagicStyleError(
            f"Words for Styles name {len(words.spans)} things and the bank holds {len(bank.styles)} styles: name one "
            "for each style, in the order in which the bank has them."
        )


def check_run(bank: FeatureBank, latent: Tensor, keep: Tensor | None = None, *, films: bool = False) -> None:
    """Refuse a running latent b c h w that the bank's features, or the masks b h w on it, do not lie on.

    `films` says whether the model takes latents b c t h w of several frames.
    """
    header = bank.pictures[0].header
    if getattr(latent, "is_nested", False) or latent.ndim != len(header.latent_shape):
        raise MagicStyleError("latent_image is not a picture latent: connect a LATENT of one still picture.")
    _check_frames(bank, Grid(latent.shape[2:]).frames, films=films)
    if latent.shape[1] != header.latent_shape[1]:
        remedy = "encode a picture, or make an empty latent, for this model"
        raise MagicStyleError(
            f"latent_image has {latent.shape[1]} channels but the {bank.name(0)} was inverted with "
            f"{header.latent_shape[1]}: "
            f"{remedy if bank.content is None else 'sample the noise of DDIM Inversion (Content)'}."
        )
    if bank.content is None:
        _check_masks(bank, latent.shape[0], keep)
    else:
        _check_content(bank, header, latent)
    for number, style in enumerate(bank.styles, 1):
        if style.features.header.batch not in (1, latent.shape[0]):
            raise MagicStyleError(
                f"latent_image holds {latent.shape[0]} pictures but style {number} holds "
                f"{style.features.header.batch}: give one style picture, or repeat the latent for as many."
            )


def _check_frames(bank: FeatureBank, frames: int, *, films: bool) -> None:
    """Refuse another number of frames than the content's; without one, a film where the model takes none."""
    first = None if bank.content is None else bank.content.header.size.frames
    if frames > 1 and (first == 1 or first is None and not films):
        raise MagicStyleError("latent_image is not a picture latent: connect a LATENT of one still picture.")
    if first is not None and first != frames:
        raise MagicStyleError(
            f"latent_image has {_frames(frames)} and the content was inverted with {_frames(first)}: "
            "sample the noise of DDIM Inversion (Content)."
        )
    for number, style in enumerate(bank.styles, 1):
        own = style.features.header.size.frames
        if own not in (1, frames):
            raise MagicStyleError(
                f"latent_image has {_frames(frames)} and style {number} {_frames(own)}: give one picture as the style, "
                "or a film of as many frames."
            )


def _check_masks(bank: FeatureBank, count: int, keep: Tensor | None) -> None:
    """Refuse several masks b h w that are not as many as the pictures that are painted."""
    masks = {
        f"the {name} of style {number}": getattr(style, name)
        for number, style in enumerate(bank.styles, 1)
        for name in ("region", "style_mask")
    }
    for name, mask in (masks | {"keep": keep}).items():
        if mask is not None and mask.shape[0] not in (1, count):
            raise MagicStyleError(
                f"{name} holds {mask.shape[0]} masks but latent_image {count} pictures: give one mask, or repeat the "
                "latent for as many."
            )


def _check_content(bank: FeatureBank, header: FeatureHeader, latent: Tensor) -> None:
    """Refuse a latent b c h w of another size or number than the content's."""
    if tuple(latent.shape[-2:]) != header.size.frame:
        raise MagicStyleError(
            f"latent_image is {_pixels(latent.shape)}{_owner(bank, latent.shape)} but the content was inverted at "
            f"{_pixels(header.latent_shape)}: sample the noise of DDIM Inversion (Content), or invert the content at "
            "the size that you sample; a style may have any size."
        )
    if header.batch not in (1, latent.shape[0]):
        raise MagicStyleError(
            f"latent_image holds {latent.shape[0]} pictures but the content features hold {header.batch}: "
            "sample the latent that DDIM Inversion (Content) gave."
        )


def check_areas(conds: Mapping[str, Any]) -> None:
    """Refuse prompts that are limited to an area where places are rotary: the model sees a part, as if it were all."""
    if any("area" in cond for listed in conds.values() for cond in listed or ()):
        raise MagicStyleError(
            "a prompt is limited to an area, which this model sees as a picture of its own, at other places than the "
            "inverted one: limit the prompt with a mask instead, or give the style a region."
        )


def _owner(bank: FeatureBank, shape: tuple[int, ...]) -> str:
    """Whose size it is, where it is that of a style: its noise was connected in place of the content's."""
    same = [i for i, style in enumerate(bank.styles, 1) if style.features.header.size.frame == tuple(shape[-2:])]
    return f", the size of style {same[0]}," if same else ""


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[-1]}x{shape[-2]} latent pixels"
