"""Which Chromium the browser tests drive, and how it is started."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_CHROMIUM = "no Chromium found: install it, or name its executable in CHROMIUM_PATH"
NO_PLAYWRIGHT = "no playwright found: pip install -r requirements-dev.txt"


def find_chromium() -> str | None:
    """The executable in CHROMIUM_PATH, else Debian's, else one on the search path, else none."""
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        return named
    if Path("/usr/bin/chromium").is_file():
        return "/usr/bin/chromium"
    return next((path for path in map(shutil.which, NAMES) if path), None)


def obstacle() -> str | None:
    """Why the browser tests cannot run here, if they cannot."""
    if importlib.util.find_spec("playwright") is None:
        return NO_PLAYWRIGHT
    return None if find_chromium() else NO_CHROMIUM
