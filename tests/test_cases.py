"""The cases of a test that run without --full."""

import itertools
from typing import NamedTuple

from magicstyle.tests.cases import one_of_each_value, values


class Cell(NamedTuple):
    row: str
    order: str


def table(**axes):
    combined = itertools.product(*axes.values())
    return {case: values(dict(zip(axes, case, strict=True))) for case in combined}


def test_every_value_is_taken_and_no_more_cases_run_than_the_longest_axis_needs():
    cases = table(method=range(5), storage="ab", cfg=(1.0, 3.0))
    chosen = list(one_of_each_value(cases))
    assert len(chosen) == 5
    assert set().union(*(cases[case] for case in chosen)) == set().union(*cases.values())
    assert sorted(sum(case[1] == storage for case in chosen) for storage in "ab") == [2, 3]


def test_one_parameter_keeps_all_of_its_cases_in_their_order():
    cases = table(name="abcd")
    assert list(one_of_each_value(cases)) == list(cases)


def test_the_fields_of_a_named_tuple_are_parameters_of_their_own():
    assert values({"cell": Cell("a", "before"), "n": 1}) == {
        ("cell", "row", "'a'"),
        ("cell", "order", "'before'"),
        ("n", "", "1"),
    }
    cases = {cell: values({"cell": cell}) for cell in itertools.starmap(Cell, itertools.product("abc", "xy"))}
    assert len(list(one_of_each_value(cases))) == 3
