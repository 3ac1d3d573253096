"""The pack's own socket types and its menu entry."""

from comfy_api.latest import io

CATEGORY = "MagicStyle"
Features = io.Custom("MAGICSTYLE_FEATURES")
Bank = io.Custom("MAGICSTYLE_BANK")
