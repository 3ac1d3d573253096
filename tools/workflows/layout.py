"""Where everything stands on the canvas: left to right, nothing on top of anything else, in either renderer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .definitions import NodeDefinition
from .describe import Block, Group, Item, Note, Workflow

if TYPE_CHECKING:
    from .pages import Facts

TITLE = 30  # drawn above a node's own position
# what Nodes 2.0 takes, which is more than the classic canvas: rows of sockets and widgets, a row with the pack's name,
# a button for what is folded away
SLOT, WIDGET, TEXT_ROW, FRAME, PACK_ROW, BUTTON = 20, 28, 8, 16, 22, 40
GAP, AISLE = 30, 40  # between nodes, and between columns
MARGIN = 15
FOOTER = 30  # of a group: Nodes 2.0 hangs a line below a node whose file is missing
GROUP_TITLE = 65  # the frontend writes a pack's name above its nodes: room for that under the group's own title
TEXT_AREA = 100
LOADED, SAVED = (300, 326), (420, 500)
PREVIEW = {
    "LoadImage": LOADED,
    "LoadVideo": (300, 410),
    "SaveImage": SAVED,
    "SaveVideo": SAVED,
    "PreviewImage": (300, 300),
}
FOLDED = {"SamplerCustom"}  # classes of the host with widgets that Nodes 2.0 folds away
ADDED = {"CreateVideo": 1}  # widgets that newer hosts have more


class Letters(NamedTuple):
    """What a line of a note takes: the width of a character, the height of a row, what is left above and below."""

    character: float
    row: int
    margin: int


# of paragraphs (0) and headings by their level, as Nodes 2.0 draws them and as the classic canvas does
NOTE_LETTERS = (
    {0: Letters(5.0, 17, 7), 1: Letters(7.7, 26, 40), 2: Letters(6.2, 21, 29)},
    {0: Letters(5.0, 15, 5), 1: Letters(9.5, 25, 16), 2: Letters(7.2, 19, 14)},
)
NOTE_PARAGRAPH, NOTE_SIDES = 2, 20  # an empty line, and left and right of the text


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
    lines = sum(widget.type == "STRING" for widget in definition.widgets) - texts
    seeds = sum(widget.is_seed for widget in definition.widgets)
    height = slots * SLOT + (len(definition.widgets) + seeds) * WIDGET + lines * TEXT_ROW + texts * TEXT_AREA + FRAME
    height += ADDED.get(definition.type, 0) * WIDGET
    height += PACK_ROW * definition.is_ours + BUTTON * (definition.type in FOLDED)
    return (300 if definition.widgets else 240), height


def note_height(text: str, width: int) -> int:
    """Room for a note's text, wrapped at its width."""
    return max(_text_height(text, width - NOTE_SIDES, letters) for letters in NOTE_LETTERS)


def _text_height(text: str, room: int, letters: dict[int, Letters]) -> int:
    height = 0
    for line in text.strip().splitlines():
        drawn = letters[len(line) - len(line.lstrip("#"))]
        rows = math.ceil(drawn.character * len(line) / room)
        height += rows * drawn.row + drawn.margin if line else NOTE_PARAGRAPH
    return height


def block_size(block: Block, facts: Facts) -> tuple[int, int]:
    """Room for a block's sockets and widgets."""
    slots = max(len(facts.inputs(block)), len(facts.outputs(block)))
    texts = sum(bool(facts.knob(knob).options.get("multiline")) for knob in block.knobs)
    return block.width, slots * SLOT + len(block.knobs) * WIDGET + texts * TEXT_AREA + FRAME + PACK_ROW


def item_size(item: Item, facts: Facts) -> tuple[int, int]:
    """A note's own width, a node's own size or a fitting one."""
    if isinstance(item, Note):
        return item.width, note_height(item.text, item.width)
    if isinstance(item, Block):
        return block_size(item, facts)
    return item.size or node_size(facts.definition(item))


def place_stacks(
    stacks: tuple[tuple[Item, ...], ...], x: int, y: int, facts: Facts, items: dict[str, Box]
) -> tuple[int, int]:
    """Place stacks side by side, adding to `items`; returns where the rightmost and the lowest end."""
    left, bottom = x, y
    for stack in stacks:
        top, widest = y + TITLE, 0
        for item in stack:
            width, height = item_size(item, facts)
            items[item.key] = Box(left, top, width, height)
            top, widest = top + height + TITLE + GAP, max(widest, width)
        left, bottom = left + widest + GAP, max(bottom, top - TITLE - GAP)
    return left - GAP, bottom


def inside(block: Block, facts: Facts) -> dict[str, Box]:
    """The places of the nodes inside a block."""
    items: dict[str, Box] = {}
    place_stacks(block.stacks, 0, 0, facts, items)
    return items


def place_group(group: Group, x: int, y: int, facts: Facts, items: dict[str, Box]) -> Box:
    """Place a group's stacks side by side, adding to `items`; returns the frame."""
    right, bottom = place_stacks(group.stacks, x + MARGIN, y + GROUP_TITLE, facts, items)
    return Box(x, y, right + MARGIN - x, bottom + MARGIN + FOOTER - y)


def place(workflow: Workflow, facts: Facts) -> Layout:
    """Columns of groups from left to right."""
    layout, x = Layout({}, {}), 0
    for column in workflow.columns:
        y, right = 0, x
        for group in column:
            frame = place_group(group, x, y, facts, layout.items)
            layout.groups[group.title] = frame
            y, right = frame.y + frame.height + GAP, max(right, frame.x + frame.width)
        widen(column, right, layout)
        x = right + AISLE
    return layout


def widen(column: tuple[Group, ...], right: int, layout: Layout) -> None:
    """Let the groups of a column, and what stands in them, end together: no wire from below a note passes behind it."""
    for group in column:
        frame = layout.groups[group.title]
        layout.groups[group.title] = frame._replace(width=right - frame.x)
        for item in group.stacks[-1]:
            box = layout.items[item.key]
            layout.items[item.key] = box._replace(width=right - MARGIN - box.x)
