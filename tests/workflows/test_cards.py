"""The pictures of the template browser: none is like another."""

from itertools import combinations

from magicstyle.tests.host.locate import PACK
from magicstyle.tests.workflows import graphs
from PIL import Image, ImageChops, ImageStat

UNLIKE = 4.0  # mean difference of two cards, in grey levels; the same picture twice has 0


def card(name):
    return PACK / "workflows" / f"{graphs.title(name)}.jpg"


def test_no_card_is_like_another():
    """A title is cut off or overlooked, a picture is not: two twins had led to the wrong workflow."""
    pictures = {name: Image.open(card(name)).convert("RGB") for name in graphs.NAMES}
    differences = {
        (one, other): sum(ImageStat.Stat(ImageChops.difference(pictures[one], pictures[other])).mean) / 3
        for one, other in combinations(graphs.NAMES, 2)
    }
    assert {pair: value for pair, value in differences.items() if value < UNLIKE} == {}
