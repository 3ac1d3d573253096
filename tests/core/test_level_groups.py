"""Which steps are kept where several levels share them, and which of them serves a step."""

import pytest
from magicstyle.banks.level_groups import LevelGroups, ordinal
from magicstyle.core.errors import MagicStyleError


@pytest.mark.parametrize(
    "steps, every, kept",
    [
        (5, 1, (0, 1, 2, 3, 4)),
        (6, 3, (1, 4)),
        (12, 5, (2, 7, 10)),
        (8, 2, (0, 3, 4, 7)),
        (8, 4, (1, 6)),
        (7, 3, (1, 4, 6)),
        (3, 50, (1,)),
        (1, 1, (0,)),
    ],
)
def test_the_middle_of_each_group_is_kept(steps, every, kept):
    groups = LevelGroups(steps, every)
    assert groups.kept == kept and groups.count == len(kept)


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("every", [1, 2, 3, 5, 10, 60])
def test_a_step_is_served_by_the_kept_one_of_its_own_group(steps, every):
    groups = LevelGroups(steps, every)
    assert [groups.of(step) for step in groups.kept] == list(range(groups.count))
    for step in range(steps):
        assert abs(groups.kept[groups.of(step)] - step) <= every // 2


@pytest.mark.parametrize("every", [0, -1, 1001])
def test_a_number_that_makes_no_groups_is_refused(every):
    with pytest.raises(MagicStyleError, match=f"level_stride is {every}: choose a number from 1"):
        LevelGroups(5, every)


def test_ordinals_are_english():
    assert [ordinal(n) for n in (1, 2, 3, 5, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "5th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip
