"""The reader of apply_model's arguments."""

import pytest
import torch
from magicstyle.attention_patches.model_call import ModelCall, UnrepeatableInputError


def call(**options):
    args = torch.zeros(2, 4, 3, 5), torch.tensor([9.0, 9.0]), None, torch.ones(2, 7, 8), None, options
    return ModelCall.read(args, {"y": torch.ones(2)})


def test_the_noise_level_is_read_from_the_options_and_else_from_the_call():
    assert call(sigmas=torch.tensor([3.5])).sigma == 3.5
    assert call().sigma == 9.0


def test_the_other_inputs_are_copied_by_name():
    args = torch.zeros(2, 4, 3, 5), torch.ones(2), None, torch.ones(2, 7, 8), None, {}
    given = {
        "y": torch.ones(2, 3),
        "num_tokens": 7,
        "ref_latents": [torch.ones(1, 4, 2, 2)],
        "absent": None,
        "none": [],
    }
    read = ModelCall.read(args, given)
    assert set(read.inputs) == {"c_concat", "c_crossattn", *given}
    kept = read.repeatable
    assert set(kept) == {"c_crossattn", "y", "num_tokens", "ref_latents"}
    assert kept["num_tokens"] == 7
    for copy, own in ((kept["y"], given["y"]), (kept["ref_latents"][0], given["ref_latents"][0])):
        assert copy is not own and torch.equal(copy, own)


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("boxes", {"of": torch.ones(1)}, r"boxes \(dict\)"),
        ("ref_latents", (torch.ones(1, 4, 2, 2),), r"ref_latents \(tuple\)"),
        ("ref_latents", [torch.ones(1, 4, 2, 2), None], r"ref_latents \(list\)"),
        ("y", torch.ones(2, 3, 4), r"y \(Tensor\)"),  # of a rank that no file holds
        ("of_tomorrow", torch.ones(2, 3), r"of_tomorrow \(Tensor\)"),
        ("num_tokens", "7", r"num_tokens \(str\)"),
    ],
)
def test_an_input_that_a_replay_cannot_repeat_is_named(name, value, said):
    args = torch.zeros(2, 4, 3, 5), torch.ones(2), None, torch.ones(2, 7, 8), None, {}
    with pytest.raises(UnrepeatableInputError, match=f"takes {said} with .*choose storage features"):
        _ = ModelCall.read(args, {name: value}).repeatable


def test_a_call_is_made_as_it_was_read():
    args = torch.zeros(1), torch.ones(1), None, torch.ones(2), "control", {}
    made = []
    ModelCall.read(args, {"y": 3}).run(lambda *positional, **named: made.append((positional, named)))
    assert all(mine is yours for mine, yours in zip(made[0][0], args, strict=True)) and made[0][1] == {"y": 3}
