"""Where everything stands on the canvas: left to right, nothing on top of anything else."""

from __future__ import annotations

import math
from typing import NamedTuple

from .definitions import NodeDefinition
from .describe import Group, Item, Note, Workflow

TITLE = 30  # drawn above a node's own position
SLOT = 20
WIDGET = 24
GAP = 50
MARGIN = 20
GROUP_TITLE = 65  # the frontend writes a pack's name above its nodes: room for that under the group's own title
TEXT_AREA = 100
PREVIEW = {"LoadImage": (320, 340), "SaveImage": (460, 540)}


NOTE_LINE, NOTE_HEADING, NOTE_PARAGRAPH, NOTE_FRAME, NOTE_CHARACTER = 16, 34, 8, 40, 5.0


class Box(NamedTuple):
    """A rectangle on the canvas."""

    x: int
    y: int
    width: int
    height: int


class Layout(NamedTuple):
    """The rectangles of all nodes and notes by key, and of all groups by title."""

    items: dict[str, Box]
    groups: dict[str, Box]


def node_size(definition: NodeDefinition) -> tuple[int, int]:
    """Room for slots and widgets, and for a picture where one is shown."""
    if definition.type in PREVIEW:
        return PREVIEW[definition.type]
    slots = max(len(definition.sockets), len(definition.outputs))
    texts = sum(bool(widget.options.get("multiline")) for widget in definition.widgets)
    seeds = sum(widget.is_seed for widget in definition.widgets)
    height = slots * SLOT + (len(definition.widgets) + seeds) * WIDGET + texts * TEXT_AREA + 16
    return (360 if definition.widgets else 260), height


def note_height(text: str, width: int) -> int:
    """Room for a note's text, wrapped at its width."""
    room, height = (width - NOTE_FRAME) / NOTE_CHARACTER, NOTE_FRAME
    for line in text.strip().splitlines():
        if line.startswith("#"):
            height += NOTE_HEADING
        else:
            height += NOTE_LINE * math.ceil(len(line) / room) if line else NOTE_PARAGRAPH
    return height


def item_size(item: Item, definitions: dict[str, NodeDefinition]) -> tuple[int, int]:
    """A note's own width, a node's own size or a fitting one."""
    if isinstance(item, Note):
        return item.width, note_height(item.text, item.width)
    return item.size or node_size(definitions[item.type])


def place_group(
    group: Group, x: int, y: int, definitions: dict[str, NodeDefinition], items: dict[str, Box]
) -> tuple[Box, int]:
    """Place a group's stacks side by side, adding to `items`; returns the frame and where the next group may start."""
    left, bottom = x + MARGIN, y
    for stack in group.stacks:
        top, widest = y + GROUP_TITLE + TITLE, 0
        for item in stack:
            width, height = item_size(item, definitions)
            items[item.key] = Box(left, top, width, height)
            top, widest = top + height + TITLE + GAP, max(widest, width)
        left, bottom = left + widest + GAP, max(bottom, top - TITLE - GAP)
    frame = Box(x, y, left - GAP + MARGIN - x, bottom + MARGIN - y)
    return frame, frame.y + frame.height + GAP


def row_tops(workflow: Workflow, definitions: dict[str, NodeDefinition]) -> dict[str, int]:
    """The height at which each row starts: below the tallest of what stands above it."""
    tops: dict[str, int] = {}
    for column in workflow.columns:
        y = 0
        for group in column:
            if group.row:
                y = tops[group.row] = max(y, tops.get(group.row, 0))
            _, y = place_group(group, 0, y, definitions, {})
    return tops


def place(workflow: Workflow, definitions: dict[str, NodeDefinition]) -> Layout:
    """Columns of groups from left to right."""
    layout, x, rows = Layout({}, {}), 0, row_tops(workflow, definitions)
    for column in workflow.columns:
        y, right = 0, x
        for group in column:
            frame, y = place_group(group, x, rows.get(group.row, y), definitions, layout.items)
            layout.groups[group.title] = frame
            right = max(right, frame.x + frame.width)
        x = right + GAP
    return layout
