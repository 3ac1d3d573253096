"""A running ComfyUI and the command line paint the same pairs of the published comparison."""

import re

import pytest
from magicstyle.benchmarks.published import host
from magicstyle.benchmarks.published.__main__ import parser, read_order
from magicstyle.benchmarks.published.painting import paint_all
from magicstyle.benchmarks.published.walks import load_walk
from magicstyle.tools.demo_model.portraits import portrait
from PIL import Image

STEPS = 4
METHODS = ("styleid", "ffa")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for part, seed in (("cnt", 3_000_000), ("sty", 4_000_000)):
        (folder / part).mkdir()
        for i in range(2):
            Image.fromarray(portrait(seed + i).image).save(folder / part / f"{i:02d}.png")
    return folder


def test_both_hosts_paint_the_same_pictures(server, data, tmp_path, capsys):
    """Not much more than 50 dB is to be had: ComfyUI's SaveImage truncates pixels and the command line rounds them,
    which is half a level on average, and so 51 dB for pictures that are otherwise the same."""
    common = ["--checkpoint", "demo", "--data", str(data), "--any-data", "--steps", str(STEPS), "--out", str(tmp_path)]
    own = read_order(parser().parse_args([*common, "--protocol", "magicstyle", "--metric-weights", "none"]))
    walk = load_walk("magicstyle", None, "cpu", STEPS)
    for method in METHODS:
        assert paint_all(own, method, lambda: walk, quiet=True) == 4
    posted = [*common, "--server", server.url, "--methods", ",".join(METHODS), "--quiet"]
    assert host.main(posted) == 0
    said = capsys.readouterr().out
    print(said)
    found = re.findall(r"(\w+): 4 pairs in both, ([\d.]+) dB at least", said)
    assert [method for method, _ in found] == list(METHODS)
    assert all(40.0 <= float(least) < 60.0 for _, least in found), said

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "comfyui").rglob("*.png")}
    assert len(written) == 8
    assert host.main(posted) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written, "a finished picture was painted again"


def test_what_is_wrong_is_one_sentence(server, data, tmp_path, capsys):
    posted = ["--data", str(data), "--any-data", "--out", str(tmp_path), "--quiet"]
    assert host.main([*posted, "--checkpoint", "demo", "--server", "http://127.0.0.1:9"]) == 1
    assert re.match(r"error: no ComfyUI answers at http://127.0.0.1:9 \(.*start it, or check", capsys.readouterr().err)
    demo = host.Host(server.url)
    with pytest.raises(host.MagicStyleError, match="ComfyUI refused a request .400.: .*ckpt_name"):
        order = read_order(parser().parse_args([*posted, "--checkpoint", "demo", "--metric-weights", "none"]))
        pair = order.pairs("ffa")[0]
        named = host.replace(order, checkpoint=host.Checkpoint(host.Path("none.safetensors"), "none", False))
        demo.run(host.graph_of(named, "ffa", pair, demo))
