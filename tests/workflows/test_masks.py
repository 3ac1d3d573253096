"""Workflows that paint where the user has painted a mask, opened by one who has not yet."""

import pytest
from magicstyle.tests.host.server import PromptFailed
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.convert import NOTES
from magicstyle.tests.workflows.provide import provide

UNPAINTED = "unpainted_portrait.png"
by_mask = pytest.mark.parametrize("name", ["portrait_keep_background", "two_styles_by_mask", "inpaint_region"])


def without_a_mask(name):
    """A workflow with a portrait on which nothing is painted."""
    graph = graphs.substituted(graphs.with_pictures(name), width=128, height=128, steps=3)
    (portrait,) = (
        node["inputs"]
        for key, node in graph.items()
        if node["class_type"] == "LoadImage" and graphs.draws_mask(graph, key)
    )
    portrait["image"] = UNPAINTED
    return graph


@by_mask
def test_without_a_painted_mask_run_says_in_one_sentence_where_to_paint_one(server, name):
    graph = without_a_mask(name)
    provide(server, graph, (128, 128))
    with pytest.raises(PromptFailed, match="region is black everywhere.* Load Image .*Mask Editor or load a picture "):
        server.run(graph)


@by_mask
def test_the_note_says_to_paint_the_mask_before_run_is_pressed(name):
    (note,) = (node["widgets_values"][0] for node in graphs.saved(name)["nodes"] if node["type"] in NOTES)
    plain = note.replace("*", "")
    assert 0 < plain.index("MaskEditor") < plain.index("Press Run")
