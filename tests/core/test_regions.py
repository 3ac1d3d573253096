import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.regions import clean_mask, region_mask, style_mask


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([[True, False]]),
        torch.tensor([[255, 0]], dtype=torch.uint8),
        torch.tensor([[1, 0]], dtype=torch.uint8),
        torch.tensor([[[1.7, -0.4]]]),
        torch.tensor([[[[1.0, 0.0]]]]),
    ],
)
def test_masks_of_every_kind_become_values_from_zero_to_one(mask):
    assert clean_mask(mask, "region").tolist() == [[[1.0, 0.0]]]


def test_masks_with_a_channel_axis_lose_it():
    assert clean_mask(torch.ones(2, 1, 3, 5), "region").shape == (2, 3, 5)
    assert clean_mask(torch.ones(2, 3, 5, 1), "region").shape == (2, 3, 5)


@pytest.mark.parametrize(
    "mask, message",
    [
        (torch.zeros(0, 4, 4), "region has the shape"),
        (torch.zeros(3), "region has the shape"),
        (torch.zeros(1, 3, 4, 4), "region has the shape"),
        (torch.full((1, 4, 4), float("nan")), "region holds NaN"),
    ],
)
def test_masks_that_mean_nothing_are_refused(mask, message):
    with pytest.raises(MagicStyleError, match=message):
        clean_mask(mask, "region")


def test_a_style_mask_must_leave_something_of_every_picture():
    masks = torch.zeros(2, 4, 4)
    masks[0, 1, 2] = 0.01
    with pytest.raises(MagicStyleError, match="style_mask is black everywhere"):
        style_mask(masks, 2)
    masks[1, 3, 0] = 0.01
    assert torch.equal(style_mask(masks, 2), masks)


@pytest.mark.parametrize("check", [region_mask, style_mask])
def test_masks_are_one_for_all_pictures_or_one_for_each(check):
    for rows in (1, 2):
        assert check(torch.full((rows, 4, 4), 0.5), 2).shape == (rows, 4, 4)
    for rows, pictures in ((2, 1), (3, 2), (2, 3)):
        with pytest.raises(MagicStyleError, match=f"holds {rows} masks and the content {pictures} pictures"):
            check(torch.ones(rows, 4, 4), pictures)
