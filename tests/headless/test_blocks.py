"""Runs with many styles: blocks, what of them fails, how many rows they take and how much they hold."""

import numpy as np
import pytest
from magicstyle.headless import cli
from magicstyle.headless.engine.blocks import HELD, BlockShape
from magicstyle.headless.pairs.block_jobs import blocks_of
from magicstyle.headless.pairs.plan import Job, Picture
from PIL import Image

FAST = ["--steps", "2", "--size", "64", "--quiet"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, loads):
    monkeypatch.chdir(tmp_path)


def stylize(*arguments):
    return cli.main(["stylize", *map(str, arguments), *FAST])


def made(folder):
    return sorted(path.name for path in folder.iterdir())


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_blocks_paint_what_pairs_paint_and_a_rerun_finds_it(tmp_path, pictures, loads):
    pictures("photos/a.png", "photos/b.png", "photos/c.png", "styles/x.png", "styles/y.png")
    assert stylize("photos", "styles", "-o", "pairs", "--sheet") == cli.OK
    assert stylize("photos", "styles", "-o", "blocks", "--sheet", "--block", "2x50", "--batch", "2") == cli.OK
    assert made(tmp_path / "pairs") == made(tmp_path / "blocks") and len(made(tmp_path / "pairs")) == 12
    for path in (tmp_path / "pairs").iterdir():  # half precision: of trajectories here, of features there
        assert np.abs(pixels(path) - pixels(tmp_path / "blocks" / path.name)).max() <= 3
    assert stylize("photos", "styles", "-o", "blocks", "--sheet", "--block", "3x3") == cli.OK
    assert len(loads) == 2


def test_more_styles_than_are_held_go_in_blocks(pictures, capsys):
    pictures("a.png", *(f"styles/{number}.png" for number in range(HELD + 1)))
    assert cli.main(["stylize", "a.png", "styles", "-o", "out", *FAST[:-1]]) == cli.OK
    assert f"block 1 of 1: 1 portraits x {HELD + 1} styles" in capsys.readouterr().err
    few = [f"styles/{number}.png" for number in range(HELD)]
    assert cli.main(["stylize", "a.png", *few, "-o", "few", *FAST[:-1]]) == cli.OK
    assert "block" not in capsys.readouterr().err


def test_a_picture_that_cannot_be_inverted_fails_alone(tmp_path, pictures, loads, model, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png", "y.png")
    encoded = []

    def encode(picture):
        encoded.append(1)
        return model.encode(picture) * (float("nan") if len(encoded) == 2 else 1.0)

    loads.change(encode=encode)
    assert stylize("photos", "x.png", "y.png", "-o", "out", "--block", "9x9") == cli.SOME_FAILED
    assert made(tmp_path / "out") == ["a--x.png", "b--x.png"]
    assert "photos/a.png + y.png and 1 more failed" in capsys.readouterr().err


def test_a_block_that_fails_leaves_the_others(tmp_path, pictures, loads, model, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png")
    calls = []

    def failing_once(*args):
        calls.append(1)
        if len(calls) == 7:  # after two inversions of three calls
            raise MemoryError
        return model.denoised(*args)

    loads.change(denoised=failing_once)
    assert stylize("photos", "x.png", "-o", "out", "--block", "1x1") == cli.SOME_FAILED
    assert made(tmp_path / "out") == ["b--x.png"] and "not enough memory" in capsys.readouterr().err


def test_rows_are_counted_and_said(tmp_path, pictures, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png", "y.png")
    arguments = ["stylize", "photos", "x.png", "y.png", "-o", "out", "--block", "9x9", *FAST[:-1]]
    assert cli.main(arguments) == cli.OK
    rows = 4 * (2 + 1) + 2 * (4 + 4)  # inversions; at each step four pictures and four replays
    assert f"{rows} rows through the model, {rows / 4:.1f} for each of 4 pictures" in capsys.readouterr().err


def jobs(pairs):
    inputs = {name: Picture(name, name, (64, 64), (64, 64)) for pair in pairs for name in pair}
    return [Job(inputs[content], inputs[style], f"{content}{style}", "", "") for content, style in pairs]


def test_blocks_hold_what_is_missing_and_no_more():
    full = [(f"c{c}", f"s{s}") for c in range(5) for s in range(7)]
    missing = [pair for pair in full if pair not in {("c0", "s0"), ("c3", "s1"), ("c3", "s6")}]
    found = list(blocks_of(jobs(missing), BlockShape(2, 4)))
    assert sorted(job.base for block in found for job in block.jobs) == sorted("".join(pair) for pair in missing)
    for block in found:
        assert len(block.contents) <= 2 and len(block.styles) <= 4
        assert len(block.jobs) == len(block.contents) * len(block.styles)
    assert len(list(blocks_of(jobs(full), BlockShape(2, 4)))) == 3 * 2


@pytest.mark.parametrize("more", [[], ["--block", "4x2"]])
def test_a_damaged_mask_costs_its_own_picture_and_is_named_before_the_model_is_loaded(
    tmp_path, pictures, loads, model, capsys, more
):
    """A JPEG that is cut off half-way opens, and only its decoding fails."""
    pictures(*(f"photos/{name}.png" for name in "abcd"), "x.png", "y.png")
    (tmp_path / "masks").mkdir()
    for name in "abcd":
        Image.effect_noise((128, 128), 90).save(tmp_path / "masks" / f"{name}.jpg", quality=95)
    whole = (tmp_path / "masks" / "b.jpg").read_bytes()
    (tmp_path / "masks" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    told = []
    loads.change(encode=lambda picture: told.append(capsys.readouterr().err) or model.encode(picture))
    arguments = ["photos", "x.png", "y.png", "--keep", "masks", "-o", "out", *more]
    assert stylize(*arguments) == cli.SOME_FAILED
    assert made(tmp_path / "out") == [f"{name}--{style}.png" for name in "acd" for style in "xy"]
    assert told[0].count("masks/b.jpg is damaged") == 1


def test_a_mask_that_is_damaged_during_the_run_leaves_the_rest_of_its_block(tmp_path, pictures, loads, model, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png")
    (tmp_path / "masks").mkdir()
    for name in "ab":
        Image.new("L", (128, 128), 255).save(tmp_path / "masks" / f"{name}.png")

    def encode_while_a_mask_is_damaged(picture):
        (tmp_path / "masks" / "a.png").write_bytes(b"")
        return model.encode(picture)

    loads.change(encode=encode_while_a_mask_is_damaged)
    arguments = ["photos", "x.png", "--keep", "masks", "-o", "out", "--block", "2x2"]
    assert stylize(*arguments) == cli.SOME_FAILED
    assert made(tmp_path / "out") == ["b--x.png"]
    assert "photos/a.png + x.png failed: masks/a.png is empty" in capsys.readouterr().err


def test_a_batch_without_blocks_is_said_to_do_nothing(pictures, capsys):
    pictures("a.png", "x.png")
    assert stylize("a.png", "x.png", "-o", "out", "--batch", "2") == cli.OK
    assert "--batch is for blocks" in capsys.readouterr().err
