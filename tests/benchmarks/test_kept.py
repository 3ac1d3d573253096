"""What a benchmark painted is found again, and never taken for something else."""

import time

import torch
from magicstyle.benchmarks.kept import chunks_of, paint_kept


def run(folder, ways, count, until=100.0):
    """Paint `count` pairs, three at a time -> the pictures and what was painted for them."""
    made = []

    def painter(chunk):
        def paint(way):
            made.append((way, chunk.start, chunk.stop))
            return torch.full((chunk.stop - chunk.start, 3, 2, 2), ord(way) / 255)

        return paint

    def place(way, chunk):
        return folder / f"{way} {chunk.start}-{chunk.stop}.safetensors"

    return paint_kept(ways, chunks_of(count, 3), place, painter, time.monotonic() + until), made


def test_chunks_hold_every_pair_once():
    assert chunks_of(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]


def test_only_what_is_missing_is_painted(tmp_path):
    assert run(tmp_path, "a", 4)[1] == [("a", 0, 3), ("a", 3, 4)]
    found, made = run(tmp_path, "ab", 4)
    assert made == [("b", 0, 3), ("b", 3, 4)]
    assert {way: x.shape[0] for way, x in found.items()} == {"a": 4, "b": 4}
    assert all(torch.equal(x, torch.full_like(x, ord(way) / 255)) for way, x in found.items())


def test_a_short_last_chunk_does_not_stand_for_a_full_one(tmp_path):
    run(tmp_path, "a", 4)
    found, made = run(tmp_path, "a", 6)
    assert made == [("a", 3, 6)] and found["a"].shape[0] == 6


def test_after_its_time_nothing_is_painted_and_half_a_way_is_no_result(tmp_path):
    assert run(tmp_path, "a", 4, until=-1) == ({}, [])
    run(tmp_path, "a", 3)
    assert run(tmp_path, "a", 4, until=-1) == ({}, [])
