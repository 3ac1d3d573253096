"""Whether a run goes over stores: known before anything of such runs is imported."""

from __future__ import annotations

import argparse


def is_uri(text: str | None) -> bool:
    """Whether a text names a store by scheme://; pages of the web are none."""
    return text is not None and "://" in text and not text.lower().startswith(("http:", "https:", "ftp:"))


def over_stores(given: argparse.Namespace) -> bool:
    """Whether a run of stylize reads a library and goes unit by unit, instead of pair by pair in one folder."""
    named = [given.library, given.ray, given.shard, *(text for text in (given.content, given.out) if is_uri(text))]
    return any(value is not None for value in named)
