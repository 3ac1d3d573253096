"""MagicStyle for ComfyUI: training-free portrait stylization from one reference picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """What the host calls to learn the nodes; nothing of the host is imported before."""
    from .nodes import MagicStyleExtension

    return MagicStyleExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
