import pytest
import torch
from magicstyle.core.grid import Grid
from magicstyle.core.preview import enlarged, heat, pca_colours, side_by_side, style_share
from magicstyle.tests.core.oracle import randn, split

GRIDS = [Grid((3, 5)), Grid((4, 2))]


def test_alike_features_have_alike_colours_in_every_picture():
    kinds = randn(0, 2, 12) * 5
    content = kinds[torch.arange(15) % 2] + 0.01 * randn(1, 15, 12)
    style = kinds[torch.arange(8) % 2] + 0.01 * randn(2, 8, 12)
    first, second = pca_colours([content, style], GRIDS)
    assert first.shape == (3, 5, 3) and second.shape == (4, 2, 3)
    colours = torch.cat([first.reshape(-1, 3), second.reshape(-1, 3)])[:, 0]
    kind = torch.cat([torch.arange(15) % 2, torch.arange(8) % 2]).bool()
    assert (colours[kind].mean() - colours[~kind].mean()).abs() > 0.8
    assert colours[kind].std() < 0.2 and colours[~kind].std() < 0.2
    assert colours.min() >= 0.0 and colours.max() <= 1.0


def test_features_with_fewer_than_three_channels_still_have_colours():
    (picture,) = pca_colours([randn(0, 15, 2)], GRIDS[:1])
    assert picture.shape == (3, 5, 3) and torch.isfinite(picture).all()


def test_colours_run_from_the_second_to_the_ninety_eighth_hundredth():
    """One channel that counts from 0 to 100: two places at each end are cut off, the rest is spread evenly."""
    (picture,) = pca_colours([torch.arange(101.0).unsqueeze(1)], [Grid((101, 1))])
    expected = ((torch.arange(101.0) - 2.0) / 96.0).clamp(0.0, 1.0)
    torch.testing.assert_close(picture[:, 0, 0], expected, atol=1e-5, rtol=0)
    assert bool((picture[:, 0, 1:] == 0.0).all())


@pytest.mark.parametrize("n", [15, 1100])
def test_the_share_is_the_softmax_mass_on_style_tokens(n):
    q, content, styles = randn(0, n, 8), randn(1, 9, 8), [randn(2, 7, 8), randn(3, 5, 8)]
    keys = torch.cat([*styles, content]).unsqueeze(0)
    logits = split(q.unsqueeze(0), 2) @ split(keys, 2).mT / 2.0
    expected = logits.softmax(dim=-1)[0, :, :, :12].sum(-1).mean(0)
    torch.testing.assert_close(style_share(q, styles, content, 2), expected, atol=1e-5, rtol=1e-5)


def test_pictures_stand_side_by_side_at_one_height():
    sheet = side_by_side([enlarged(torch.zeros(3, 5, 3)), enlarged(heat(torch.linspace(0, 1, 8), GRIDS[1]))])
    assert sheet.shape == (1, 384, 640 + 16 + 192, 3)
    assert sheet.min() >= 0.0 and sheet.max() <= 1.0
    assert (sheet[0, :, 640:656] == 1.0).all()
