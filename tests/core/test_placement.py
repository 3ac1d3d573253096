"""Where features go."""

import pytest
import torch
from magicstyle.core.placement import page_locked, settle_place

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    "place, device, estimate, expected",
    [
        ("auto", CUDA, 100, "gpu"),
        ("auto", CUDA, 101, "cpu"),
        ("auto", CPU, 1, "cpu"),
        ("cpu", CUDA, 1, "cpu"),
        ("gpu", CUDA, 10**6, "gpu"),
        ("disk", CUDA, 1, "disk"),
    ],
)
def test_auto_is_the_device_while_features_take_an_eighth_of_its_free_memory(place, device, estimate, expected):
    assert settle_place(place, device, estimate, free_on_device=800) == expected


def test_memory_that_cannot_be_locked_is_ordinary_memory(monkeypatch):
    ordinary = torch.empty

    def refuse(*shape, **options):
        if options.get("pin_memory"):
            raise RuntimeError("CUDA error: out of memory")
        return ordinary(*shape, **options)

    monkeypatch.setattr(torch, "empty", refuse)
    room = page_locked("output.6.0.k", (3, 1, 4, 8), torch.float16)
    assert room.shape == (3, 1, 4, 8) and room.dtype == torch.float16 and not room.is_pinned()
