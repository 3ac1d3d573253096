"""Banks on disk through a real server: saved, listed, loaded, and kept inside the host's folders."""

import numpy as np
import pytest
from magicstyle.tests import photographs
from magicstyle.tests.host.server import PromptFailed, PromptRejected
from magicstyle.tests.workflows import graphs


@pytest.fixture(scope="module")
def saved(server):
    """A style saved to the output folder, and the graph that applies it."""
    for name, picture in (
        ("style.png", photographs.style((128, 128))),
        ("portrait.png", photographs.portrait((128, 128))),
    ):
        server.upload(name, picture)
    for checkpoint in graphs.literals(graphs.api("style_library_save"), "CheckpointLoaderSimple", "ckpt_name"):
        server.add_checkpoint(checkpoint, "full")
    server.run(small("style_library_save"))
    return small("style_library_apply")


def small(name):
    return graphs.substituted(graphs.with_pictures(name), width=128, height=128, steps=4)


def banks(server):
    info = server.object_info("MagicStyleLoadFeatureBank")["MagicStyleLoadFeatureBank"]
    kind, *options = info["input"]["required"]["bank_name"]
    return kind if isinstance(kind, list) else options[0]["options"]


def test_a_saved_bank_is_listed_after_a_refresh_and_is_small(server, saved):
    assert "style_00001_.safetensors" in banks(server)
    (path,) = (server.folder / "output" / "magicstyle").glob("style_00001_*")
    assert path.stat().st_size < 2_000_000
    assert not list(path.parent.glob("*.part"))


def test_a_loaded_style_paints_as_the_live_one_does(server, saved):
    loaded = server.saved_images(server.run(saved))[0]
    graph = small("portrait_stylization")
    for node in graph.values():
        if node["class_type"] == "MagicStyleInvertStyle":
            node["inputs"]["storage"] = "latents"
    live = server.saved_images(server.run(graph))[0]
    assert np.abs(loaded.astype(float) - live.astype(float)).mean() < 1.0
    plain = {key: {**node, "inputs": dict(node["inputs"])} for key, node in saved.items()}
    checkpoint = next(key for key, node in plain.items() if node["class_type"] == "CheckpointLoaderSimple")
    graphs.only(plain, "SamplerCustom")["inputs"]["model"] = [checkpoint, 0]
    assert np.abs(loaded.astype(float) - server.saved_images(server.run(plain))[0].astype(float)).mean() > 2.0


def test_a_bank_in_the_models_folder_is_listed_too(server, saved):
    source = server.folder / "output" / "magicstyle" / "style_00001_.safetensors"
    target = server.folder / "models" / "magicstyle" / "shared.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    assert "shared.safetensors" in banks(server)


def test_a_file_that_is_no_bank_is_refused_in_one_sentence(server, saved):
    (server.folder / "output" / "magicstyle" / "broken.safetensors").write_bytes(b"\x80\x04nonsense")
    assert "broken.safetensors" in banks(server)
    with pytest.raises(PromptFailed, match="broken.safetensors is damaged or no MagicStyle bank"):
        server.run(graphs.substituted(saved, bank_name="broken.safetensors"))


@pytest.mark.parametrize("name", ["../../secret.safetensors", "/etc/passwd", "gone.safetensors"])
def test_a_name_that_is_not_listed_is_refused(server, saved, name):
    with pytest.raises((PromptRejected, PromptFailed), match="bank_name"):
        server.run(graphs.substituted(saved, bank_name=name))


def test_a_prefix_outside_the_output_folder_is_refused(server, saved):
    graph = graphs.substituted(small("style_library_save"), filename_prefix="../../escaped/style")
    with pytest.raises(PromptFailed, match="filename_prefix '../../escaped/style' leaves the output folder"):
        server.run(graph)
    assert not list(server.folder.parent.rglob("escaped*"))
