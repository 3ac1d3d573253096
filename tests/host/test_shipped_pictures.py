"""The pack's pictures and its clip lie where loaders look, and nothing of the user's is touched."""

import logging

import folder_paths
import numpy as np
import pytest
from magicstyle.model_files.demo import DEMO_CONTENT
from magicstyle.nodes.shipped_pictures import NAMES, offer_pictures
from magicstyle.tools.workflows.film import SHIPPED
from magicstyle.tools.workflows.stock import PICTURES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    return tmp_path / "input"


def test_all_are_copied_once(folder):
    offer_pictures()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: source.read_bytes() for name, source in NAMES.items()
    }
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    offer_pictures()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_file_of_that_name_is_left_alone(folder):
    folder.mkdir()
    mine = folder / next(iter(NAMES))
    mine.write_bytes(b"mine")
    offer_pictures()
    assert mine.read_bytes() == b"mine" and len(list(folder.iterdir())) == len(NAMES)


def test_a_folder_that_cannot_be_written_is_said_and_the_pack_loads(folder, caplog):
    folder.write_text("a file where a folder should be", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "magicstyle"):
        offer_pictures()
    assert len(caplog.messages) == len(NAMES)
    assert all("choose another picture" in message and str(folder) in message for message in caplog.messages)


def test_the_host_offers_them_and_workflows_choose_them(server):
    (offered, *_) = server.object_info("LoadImage")["LoadImage"]["input"]["required"]["image"]
    assert set(PICTURES.values()) <= set(offered) and {*PICTURES.values(), SHIPPED} == set(NAMES)
    ((kind, options),) = server.object_info("LoadVideo")["LoadVideo"]["input"]["required"].values()
    assert SHIPPED in (options["options"] if kind == "COMBO" else kind)
    shown = server.view({"filename": next(iter(NAMES)), "subfolder": "", "type": "input"})
    from magicstyle.nodes.demo_model import read_image

    assert np.allclose(shown / 255, read_image(DEMO_CONTENT)[0].numpy(), atol=1e-6)
