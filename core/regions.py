"""Masks on pictures, as users give them: checked, and made floating."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import MagicStyleError
from .ranges import check_range

KEEP_STRENGTH = 1.0  # of a mask that keeps the content
NO_ALPHA = (64, 64)  # of the black MASK that the host's Load Image gives beside a picture without transparency


def clean_mask(mask: Tensor, name: str) -> Tensor:
    """A user's mask as float b h w in [0, 1]; bool and uint8 (0..255) are understood, NaN and odd shapes refused."""
    if mask.ndim == 2:
        mask = mask.unsqueeze(0)
    if mask.ndim == 4 and 1 in (mask.shape[1], mask.shape[-1]):
        mask = mask.squeeze(1) if mask.shape[1] == 1 else mask.squeeze(-1)
    if mask.ndim != 3 or mask.numel() == 0:
        raise MagicStyleError(f"{name} has the shape {tuple(mask.shape)}: connect a MASK of height x width pixels.")
    scale = 255.0 if mask.dtype == torch.uint8 and mask.max() > 1 else 1.0
    mask = mask.float() / scale
    if not torch.isfinite(mask).all():
        raise MagicStyleError(f"{name} holds NaN or infinite values: connect a mask with values from 0 to 1.")
    return mask.clamp(0.0, 1.0)


def region_mask(mask: Tensor, pictures: int | None, frames: int = 1) -> Tensor:
    """Where a style acts, checked: b h w in [0, 1], one mask for all pictures of the content or one for each.

    `pictures` is None where the running latent will say how many there are. Of a film it may also be one for each of
    its latent's frames, or of the video's: 1 t h w.
    """
    return _for_pictures(clean_mask(mask, "region"), "region", pictures, frames)


def acting_region(mask: Tensor, pictures: int | None, frames: int = 1) -> Tensor:
    """Where a style acts, checked: b h w or 1 t h w in [0, 1] as `region_mask` says, somewhere at least."""
    mask = region_mask(mask, pictures, frames)
    if is_black(mask):
        remedy = "paint where the style shall act white, or disconnect region"
        raise MagicStyleError(
            f"region is black everywhere, so that the style acts nowhere: {black_cause(mask, remedy)}."
        )
    return mask


def style_mask(mask: Tensor, pictures: int | None) -> Tensor:
    """What of a style may be drawn from, checked: b h w in [0, 1], something of each picture."""
    mask = _for_pictures(clean_mask(mask, "style_mask"), "style_mask", pictures)
    if bool((mask.amax(dim=(1, 2)) == 0.0).any()):
        remedy = "paint what may be used white, or give the style a weight of 0"
        raise MagicStyleError(
            f"style_mask is black everywhere and leaves nothing of the style to draw from: {black_cause(mask, remedy)}."
        )
    return mask


def is_black(mask: Tensor) -> bool:
    """Whether a mask b h w covers nothing at all."""
    return not bool((mask > 0.0).any())


def black_cause(mask: Tensor, remedy: str) -> str:
    """Why a mask b h w may be black, where its size tells, and what to do."""
    if tuple(mask.shape[1:]) != NO_ALPHA:
        return (
            f"{remedy}; a mask from Load Image is black until you paint one in its Mask Editor or load a picture that "
            "has one"
        )
    return (
        "Load Image gives such a mask for a picture without transparency, as every JPEG is; draw one in its Mask "
        f"Editor or load one with Load Image (as Mask), {remedy}"
    )


def keep_mask(mask: Tensor, strength: float, pictures: int | None, frames: int = 1) -> Tensor | None:
    """How far a content is to stay as it is, checked: b h w or 1 t h w in [0, 1], as a region; None where nowhere."""
    check_range("keep_strength", strength, 0.0, 1.0)
    kept = strength * _for_pictures(clean_mask(mask, "keep"), "keep", pictures, frames)
    return kept if bool((kept > 0.0).any()) else None


def _for_pictures(mask: Tensor, name: str, pictures: int | None, frames: int = 1) -> Tensor:
    """A mask b h w, refused where it is neither one for all pictures nor one for each, nor one for each frame."""
    if frames > 1 and mask.shape[0] not in (1, pictures):
        return _for_frames(mask, name, frames)
    if pictures is not None and mask.shape[0] not in (1, pictures):
        raise MagicStyleError(
            f"{name} holds {mask.shape[0]} masks and the content {pictures} pictures: "
            "give one mask, or as many as content pictures."
        )
    return mask


def _for_frames(mask: Tensor, name: str, frames: int) -> Tensor:
    """Masks n h w of a film -> 1 t h w.

    A video model's latent has a frame for the first picture and one for each so many that follow: theirs is the mean.
    """
    count = mask.shape[0]
    if count != frames and (count - 1) % (frames - 1):
        raise MagicStyleError(
            f"{name} holds {count} masks and the content {frames} latent frames: "
            "give one mask, or one for each frame of the video."
        )
    if count == frames:
        return mask.unsqueeze(0)
    together = mask[1:].unflatten(0, (frames - 1, -1)).mean(dim=1)
    return torch.cat([mask[:1], together]).unsqueeze(0)
