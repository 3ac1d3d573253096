"""Styles inverted once into a library, and runs over stores that paint from it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from magicstyle.banks.bank_file import load_styles
from magicstyle.headless import cli
from magicstyle.headless.campaign.library import from_bytes, to_bytes
from magicstyle.headless.campaign.store import FolderStore
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import invert
from magicstyle.headless.pictures.png import read_record
from magicstyle.headless.pictures.reading import decode_picture
from PIL import Image

INPUTS = ("photos/a.png", "photos/team/b.jpg", "styles/x.png", "styles/y.png")
FAST = ["--steps", "2", "--size", "64"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, loads):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return cli.main([*map(str, arguments), *FAST])


def library():
    assert run("invert-styles", "styles", "--library", "lib") == cli.OK


def stylize(*arguments):
    return run("stylize", "photos", "--library", "lib", "-o", "out", *arguments)


def made(folder="out"):
    files = (path for path in Path(folder).glob("*/**/*.png") if path.is_file())
    return sorted(path.relative_to(folder).as_posix().partition("/")[2] for path in files)


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture
def inputs(pictures):
    pictures(*INPUTS)


def test_a_library_paints_what_pairs_paint(tmp_path, inputs, capsys):
    library()
    assert stylize("--block", "2x1") == cli.OK
    assert made() == ["a.png/x.png.png", "a.png/y.png.png", "team/b.jpg/x.png.png", "team/b.jpg/y.png.png"]
    assert run("stylize", "photos/a.png", "styles", "-o", "pairs") == cli.OK
    (key,) = {path.parts[1] for path in Path("out").glob("*/a.png")}
    for style in "xy":
        pair = pixels(f"pairs/a--{style}.png")
        assert np.abs(pixels(f"out/{key}/a.png/{style}.png.png") - pair).max() <= 2
    rows = 2 * (2 * 3 + 2 * (2 + 2 + 1))  # two units: two inversions; at each step two pictures, and three replays
    assert f"4 of 4 pictures made, {rows / 4:.1f} rows through the model for each" in capsys.readouterr().err
    assert json.loads(Path(f"out/manifests/{key}.json").read_text())["steps"] == 2
    record = json.loads(read_record(Path(f"out/{key}/a.png/x.png.png")))
    assert record["steps"] == 2 and str(tmp_path) not in json.dumps(record)


def test_what_is_finished_is_not_made_again_and_what_is_added_is(inputs, pictures, loads, capsys):
    library()
    assert stylize() == cli.OK
    before, count = {name: stamp(name) for name in made()}, len(loads)
    assert stylize() == cli.OK
    assert len(loads) == count and "0 made, 4 finished earlier" in capsys.readouterr().out
    pictures(*INPUTS, "styles/w.png", "photos/0.png")  # the same bytes at another time
    library()
    assert stylize() == cli.OK
    assert len(made()) == 9 and {name: stamp(name) for name in before} == before
    assert stylize("--temperature", "1.25") == cli.OK
    assert len(made()) == 18 and {name: stamp(name) for name in before} == before


def stamp(name):
    (path,) = [path for path in Path("out").glob(f"*/{name}") if '"temperature"' not in read_record(path)]
    return path.stat().st_mtime_ns


def test_a_library_inverts_a_style_once(inputs, pictures, loads, capsys):
    library()
    assert run("invert-styles", "styles", "--library", "lib") == cli.OK and len(loads) == 1
    assert "0 styles inverted, 2 there before" in capsys.readouterr().out
    before = {path.name for path in Path("lib").rglob("*.safetensors")}
    Image.effect_noise((64, 64), 90).save("styles/x.png")
    library()
    after = {path.name for path in Path("lib").rglob("*.safetensors")}
    assert len(after) == 2 and len(after & before) == 1 and len(loads) == 2


def test_a_poisoned_picture_fails_alone_and_is_listed(inputs, capsys):
    Path("photos/c.png").write_bytes(b"no picture")
    Path("photos/d.png").write_bytes(Path("photos/a.png").read_bytes()[:2000])
    library()
    assert stylize() == cli.SOME_FAILED
    told = capsys.readouterr().err
    assert "c.png failed: c.png is not a picture" in told and "d.png failed: d.png is damaged" in told
    assert len(made()) == 4
    (left,) = [json.loads(path.read_text()) for path in Path("out/manifests").glob("*/*.json")]
    assert {lost[0] for lost in left["report"][2]} == {"c.png", "d.png"}


def test_a_style_whose_bank_is_damaged_fails_alone(inputs, capsys):
    library()
    (bank,) = Path("lib").rglob("x.png.*.safetensors")
    data = bank.read_bytes()
    bank.write_bytes(data[:-64] + bytes(64))
    assert stylize() == cli.SOME_FAILED
    assert (
        len(made()) == 2 and "a.png + x.png failed: the library's style x.png cannot be used" in capsys.readouterr().err
    )


def test_what_failed_by_chance_is_tried_again(inputs, loads, capsys):
    library()
    loads.change(encode=raising(MemoryError()))
    assert stylize() == cli.SOME_FAILED and made() == []
    loads.model = loads.plain
    assert "a.png failed: there is not enough memory" in capsys.readouterr().err
    assert stylize() == cli.OK and len(made()) == 4


def raising(error):
    def fail(*args):
        raise error

    return fail


def test_shards_make_everything_once(inputs, pictures):
    pictures(*(f"photos/{number}.png" for number in range(4)))
    library()
    parts = []
    for number in (1, 2, 3):
        assert stylize("--shard", f"{number}/3", "--overwrite") == cli.OK
        parts.append(made())
    assert len(parts[-1]) == 6 * 2 and len(parts[0]) < 12
    assert stylize() == cli.OK and made() == parts[-1]


def test_styles_may_be_chosen_by_name(inputs, capsys):
    library()
    assert stylize("y.png") == cli.OK and made() == ["a.png/y.png.png", "team/b.jpg/y.png.png"]
    assert stylize("z.png") == cli.UNUSABLE and "holds no style 'z.png'" in capsys.readouterr().err


def test_results_inside_the_portraits_are_no_portraits(inputs):
    library()
    for _ in range(2):
        assert run("stylize", "photos", "--library", "lib", "-o", "photos/out") == cli.OK
    assert len(made("photos/out")) == 4


def test_a_full_disk_stops_the_run_and_a_rerun_finishes_it(inputs, monkeypatch, capsys):
    library()
    put, left = FolderStore.put, [1]

    def put_until_full(self, name, data):
        if name.endswith(".png"):
            if not left:
                raise OSError(28, "No space left on device")
            left.pop()
        put(self, name, data)

    monkeypatch.setattr(FolderStore, "put", put_until_full)
    assert stylize("--block", "1x9") == cli.SOME_FAILED
    assert "No space left on device" in capsys.readouterr().err and len(made()) == 1
    left.extend([1] * 4)
    assert stylize("--block", "1x9") == cli.OK and len(made()) == 4


UNUSABLE = {
    "stylize photos --library lib": "holds no styles inverted with these settings: run magicstyle invert-styles",
    "stylize photos --shard 1/2": "make one with magicstyle invert-styles",
    "stylize photos --library lib --shard 3/2": "--shard is '3/2'",
    "stylize photos --library lib --sheet": "--sheet is for runs without --library",
    "stylize photos --library lib -o x.png": "is one picture, but a library makes many",
    "stylize nowhere --library lib": "nowhere is no folder",
    "stylize --library lib": "there are no pictures",
    "invert-styles styles": "make one with magicstyle invert-styles",
    "invert-styles empty --library lib": "holds no pictures",
    "stylize photos --library lib --ray auto --workers 0": "--workers is 0",
    "stylize photos --library lib --workers 2": "--workers is for runs on Ray",
    "invert-styles styles --library lib --ray auto --workers 3": "--ray means nothing to invert-styles",
    "invert-styles styles --library lib --block 2x2": "--block means nothing to invert-styles",
    "invert-styles styles --library lib -o out": "-o means nothing to invert-styles",
    "invert-styles styles --library lib --temperature=2": "--temperature means nothing to invert-styles",
    "invert-styles --library lib": "there are no style pictures",
    "invert-styles styles nowhere --library lib": "nowhere is no folder",
    "invert-styles styles other --library lib": "x.png is in ",
}


@pytest.mark.parametrize("arguments", UNUSABLE)
def test_unusable_options_are_one_sentence(inputs, capsys, loads, arguments):
    Path("empty").mkdir()
    Path("other").mkdir()
    Path("other/x.png").write_bytes(Path("styles/x.png").read_bytes())
    assert run(*arguments.split(), "--quiet") == cli.UNUSABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert UNUSABLE[arguments] in line and not loads


def test_without_ray_one_sentence_says_what_to_install(inputs, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    assert run("stylize", "photos", "--library", "lib", "--ray", "auto", "--quiet") == cli.UNUSABLE
    assert capsys.readouterr().err == (
        "magicstyle: --ray needs Ray, which is not installed: "
        'pip install ".[ray]" in the folder of the pack brings it.\n'
    )


def test_features_travel_as_bytes_with_their_ends(model):
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = invert(model, model.encode(picture), Recipe(steps=2), storage="latents").features
    back = from_bytes(to_bytes(found))
    assert back.header == found.header and back.tensors.keys() == found.tensors.keys()
    for name, tensor in found.tensors.items():
        assert torch.equal(back.tensors[name], tensor), name


def test_a_library_file_holds_its_noise_as_a_latent_of_comfyui(inputs, model):
    library()
    (bank,) = Path("lib").rglob("x.png.*.safetensors")
    (features,) = load_styles(bank)
    picture = decode_picture("x.png", Path("styles/x.png").read_bytes(), worker_frame())
    own = invert(model, model.encode(worker_tensor(picture)), Recipe(steps=2), storage="latents").features
    torch.testing.assert_close(
        features.noise_pair.noise * model.scale_factor, own.noise_pair.noise, atol=1e-4, rtol=1e-4
    )


def worker_frame():
    from magicstyle.headless.pictures.sizes import Frame

    return Frame((64, 64), fixed=True)


def worker_tensor(picture):
    from magicstyle.headless.pictures.reading import to_tensor

    return to_tensor(picture)
