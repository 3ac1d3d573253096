"""Import this before diffusers: it lets diffusers start where it would stumble over what nothing here uses."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is ever fetched
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

try:
    import torchvision  # noqa: F401
except Exception:  # a torchvision built for another torch fails in many ways
    sys.modules["torchvision"] = None  # type: ignore[assignment]  # as if it were not installed
