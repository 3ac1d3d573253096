"""The pack's own socket types and its menu entry."""

from comfy_api.latest import io

from .host_cache import answer_the_host

CATEGORY = "MagicStyle"
Features = io.Custom("MAGICSTYLE_FEATURES")
Bank = io.Custom("MAGICSTYLE_BANK")
Controls = io.Custom("MAGICSTYLE_CONTROLS")
answer_the_host()
