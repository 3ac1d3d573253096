"""The host's help panel shows our pages with their pictures, which this tier draws."""

import io

import pytest
from magicstyle.tests.browser.conftest import FOR_HELP
from magicstyle.tests.browser.frontend import PACK_FOLDER
from magicstyle.tests.host.locate import PACK
from PIL import Image

NODES = sorted(page.stem for page in (PACK / "web" / "docs").glob("*.md"))
TOO_WIDE = """() => {
    const panel = document.querySelector('.node-help-content'), right = panel.getBoundingClientRect().right;
    const parts = [...panel.querySelectorAll('p, li, h1, h2, img, code')];
    return parts.filter(part => part.getBoundingClientRect().right > right + 1).map(part => part.textContent);
}"""
TITLE, FRAME = 64, 14  # the title and the pack's name stand above a node's box


def test_every_node_can_be_drawn_for_its_help_page(frontend, keep_picture):
    boxes = frontend.place_nodes(NODES)
    frames = {name: [x, y - TITLE, width, height + TITLE] for name, (x, y, width, height) in boxes.items()}
    left, top = (min(frame[i] for frame in frames.values()) for i in (0, 1))
    sheet = Image.open(io.BytesIO(frontend.picture_of_graph(list(frames.values()), scale=1.0, margin=FRAME)))
    for name, (x, y, width, height) in frames.items():
        x, y = x - left, y - top
        node = sheet.crop((x, y, x + width + 2 * FRAME, y + height + 2 * FRAME))
        assert len(node.convert("RGB").getcolors(1_000_000)) > 30, f"{name} is not drawn"
        file = io.BytesIO()
        node.save(file, "PNG")
        keep_picture(name, file.getvalue(), FOR_HELP)
    assert frontend.complaints == []


@pytest.mark.parametrize("name", ["MagicStylePatchFFA", "MagicStyleInvertContent"])
def test_help_panel_shows_the_page_with_its_picture(frontend, name):
    frontend.place_nodes([name])
    pictures = frontend.open_help(name)
    names = [f"{name}.png", f"{name}_effect.jpg"]
    assert [source.partition(f"/extensions/{PACK_FOLDER}/docs/pictures/")[2] for source, _ in pictures] == names
    assert all(width > 200 for _, width in pictures)
    assert "What goes wrong" in frontend.help_text()
    assert frontend.evaluate(TOO_WIDE) == []
    assert frontend.complaints == []
