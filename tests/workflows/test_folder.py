"""A folder of portraits in one style: every portrait is painted."""

import pytest
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.provide import provide

NAME = "portrait_folder"


def test_every_portrait_of_the_folder_is_painted(server):
    if graphs.lacking(server, NAME):
        pytest.skip("this host loads no folders")
    graph = graphs.substituted(graphs.with_pictures(NAME), width=128, height=128, steps=3)
    provide(server, graph, (128, 128))
    entry = server.wait(server.queue(graph))
    images = server.images(entry["outputs"])
    assert len(images) == len(graphs.FOLDER_OF_PORTRAITS)
    assert abs(images[0].astype(float) - images[1]).mean() > 2, "one portrait was painted twice"
