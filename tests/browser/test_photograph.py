"""The demo with a photograph of the user's own, of another size than the shipped one, by the file button."""

import numpy as np
import pytest
from magicstyle.tests.browser.test_frontend import DEMO, picture_nodes
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.workflows import graphs
from PIL import Image

PHOTOGRAPH = PACK / "assets" / "gallery" / "grace_hopper.jpg"
CROP = (7, 3, 358, 470)  # left, top, right, bottom: 351x467 pixels, no multiple of anything
SMALL = {"size": 256, "steps": 6}  # for a CPU's sake
EXPECTED = (192, 256)  # 256 on the longer side, the shape kept: 192.4
ALIKE = 0.5  # correlation of greys; the portrait that comes with the pack has less


@pytest.fixture
def photograph(tmp_path):
    with Image.open(PHOTOGRAPH) as image:
        picture = image.convert("RGB").crop(CROP)
    path = tmp_path / "my photograph.png"
    picture.save(path)
    return path, picture


def correlation(one, other):
    """Of two pictures' greys, at a size at which brush strokes do not count."""
    greys = [np.asarray(picture.convert("L").resize((24, 32)), dtype=float).ravel() for picture in (one, other)]
    return np.corrcoef(*greys)[0, 1]


def test_the_demo_paints_a_photograph_that_is_chosen_by_the_file_button(frontend, server, photograph):
    path, picture = photograph
    frontend.open_template(graphs.title(DEMO))
    saved = graphs.saved(DEMO)
    nodes = {node.get("title"): node["id"] for node in saved["nodes"]}
    frontend.choose_file(nodes["Portrait"], path)
    frontend.turn(nodes["Invert both pictures"], SMALL)
    frontend.run()
    result, comparison = (frontend.wait_for_pictures(node, 400) for node in picture_nodes(saved))
    assert frontend.error_panel() == "", server.log[-3000:]
    assert [tuple(size) for size in result] == [EXPECTED]
    assert comparison[0][1] == EXPECTED[1]
    assert frontend.complaints == []
    graph = frontend.api()
    (taken,) = (node["inputs"]["image"] for key, node in graph.items() if key == str(nodes["Portrait"]))
    assert taken.startswith("my photograph")
    (entry,) = list(server.get("history", max_items=1).values())
    (painted,) = server.saved_images(entry["outputs"])
    assert correlation(Image.fromarray(painted), picture) > ALIKE
