"""The main job in a real ComfyUI: a portrait and a style picture in, the stylized portrait out."""

import numpy as np
import pytest
from magicstyle.tests import photographs
from magicstyle.tests.workflows import graphs

SIZES = [(128, 128), (192, 128)]


@pytest.fixture
def graph(server, request):
    """The workflow on the two photographs, at the size that the test names, as (width, height)."""
    width, height = request.param
    graph = graphs.substituted(
        graphs.with_pictures("portrait_stylization"), width=width, height=height, steps=4, ckpt_name="tiny_full.ckpt"
    )
    for picture, draw in (("portrait.png", photographs.portrait), ("style.png", photographs.style)):
        server.upload(picture, draw((width, height)))
    return graph


def run(server, graph):
    (image,) = server.saved_images(server.run(graph))
    return image.astype(np.float32)


def plain_reconstruction(graph):
    """The same graph without the patcher, from the content's own noise: what inversion alone gives back."""
    graph = graphs.substituted(graph)
    sampler, initial = graphs.only(graph, "SamplerCustom"), graphs.only(graph, "MagicStyleInitialLatent")
    sampler["inputs"]["model"] = graphs.only(graph, "MagicStylePatchFFA")["inputs"]["model"]
    sampler["inputs"]["latent_image"] = initial["inputs"]["content"]
    return graph


def unpatched(graph):
    """The same graph, initial latent and all, with the model in place of the patched model."""
    graph = graphs.substituted(graph)
    model = graphs.only(graph, "MagicStylePatchFFA")["inputs"]["model"]
    graphs.only(graph, "SamplerCustom")["inputs"]["model"] = model
    return graph


@pytest.mark.parametrize("graph", SIZES, indirect=True, ids=str)
def test_portrait_comes_out_stylized_at_the_size_asked_for(server, graph, request):
    width, height = request.node.callspec.params["graph"]
    image = run(server, graph)
    assert image.shape == (height, width, 3)
    assert image.std() > 2
    for reference in (plain_reconstruction(graph), unpatched(graph)):
        assert np.abs(image - run(server, reference)).mean() > 1


@pytest.mark.parametrize("graph", SIZES[1:], indirect=True, ids=str)
def test_same_portrait_twice_from_a_cold_cache(server, graph):
    first = run(server, graph)
    server.free()
    entry = server.wait(server.queue(graph))
    (second,) = server.saved_images(entry["outputs"])
    assert dict(entry["status"]["messages"])["execution_cached"]["nodes"] == []
    assert np.array_equal(first, second)
