"""A server that dies while it saves a bank leaves nothing that looks like one."""

import os
import time

import pytest
from magicstyle.banks.bank_file import load_bank
from magicstyle.tests.host.locate import find_host
from magicstyle.tests.host.server import Server
from magicstyle.tests.host.test_files import banks
from magicstyle.tests.workflows import graphs


def saving(prefix):
    """The demo's bank of features, some thirty megabytes, saved."""
    graph = graphs.substituted(graphs.api("demo_no_download"), steps=20, storage="features")
    (bank,) = (key for key, node in graph.items() if node["class_type"] == "MagicStyleFeatureBank")
    save = {"bank": [bank, 0], "filename_prefix": f"magicstyle/{prefix}", "contents": "everything"}
    return {**graphs.needed(graph, bank), "save": {"class_type": "MagicStyleSaveFeatureBank", "inputs": save}}


def names(folder, suffix):
    return sorted(name for name in os.listdir(folder) if name.endswith(suffix))


def kill_during_a_save(server, folder):
    """Queue several saves; kill the process as soon as one has begun. Returns whether it was in the midst of it."""
    for number in range(5):
        server.queue(saving(f"late{number}"))
    deadline = time.monotonic() + 120
    while not names(folder, ".part"):
        assert time.monotonic() < deadline, server.log[-3000:]
    server.process.kill()
    server.process.wait()
    return bool(names(folder, ".part"))


@pytest.mark.server
def test_a_server_killed_during_a_save_leaves_no_half_file_and_its_litter_goes_with_the_next_save(tmp_path):
    folder = tmp_path / "output" / "magicstyle"
    with Server(find_host(), tmp_path) as server:
        server.run(saving("whole"))
        (whole,) = folder.glob("*.safetensors")
        while not kill_during_a_save(server, folder):
            server.start()
        files = sorted(folder.glob("*.safetensors"))
        assert {path.stat().st_size for path in files} == {whole.stat().st_size}
        assert load_bank(files[-1]).styles
        server.start()
        assert sorted(banks(server)) == [path.name for path in files]
        server.run(saving("after"))
        assert names(folder, ".part") == []
