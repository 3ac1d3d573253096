"""What the pack has to say to whoever looks at the graph: texts on nodes, and every warning also in the page."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

from comfy_execution.utils import get_executing_context

LOGGER = logging.getLogger("magicstyle")
EVENT = "magicstyle.warning"  # web/magicstyle.js shows it


def show_on_node(text: str) -> None:
    """Lay a text on the node that runs now, where a server has somebody to show it to."""
    server, node = running_server(), _running_node()
    if server is not None and node is not None:
        server.send_progress_text(text, node, server.client_id)


def warn(title: str, sentences: Iterable[str]) -> None:
    """Log each sentence, and so show it."""
    for sentence in sentences:
        LOGGER.warning("%s: %s", title, sentence)


def show_warnings() -> None:
    """Let the page show what the pack logs as a warning, whichever package logs it; once a process."""
    if not any(isinstance(handler, _ToPage) for handler in LOGGER.handlers):
        LOGGER.addHandler(_ToPage(logging.WARNING))


class _ToPage(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            server = running_server()
            if server is not None:
                server.send_sync(EVENT, {"text": record.getMessage(), "node": _running_node()}, server.client_id)
        except Exception:  # as logging's own handlers do: a page that is not reached must not end a run
            self.handleError(record)


def running_server() -> Any:
    """The host's server, where there is one: tests and scripts run nodes without."""
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)


def _running_node() -> str | None:
    context = get_executing_context()
    return None if context is None else context.node_id
