"""Survivors that no test could or should kill, and why: (file, before, after) -> reason."""

from __future__ import annotations

ACCEPTED: dict[tuple[str, str, str], str] = {}
