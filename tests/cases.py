"""Which cases of a test with several parameters run without --full."""

from collections import Counter

import pytest


def one_of_each_value(cases):
    """The first cases, greedily few, in which each parameter takes each of its values, and none much more often."""
    missing, taken = set().union(*cases.values()), Counter()
    while missing:
        best = max(cases, key=lambda case: (len(cases[case] & missing), -sum(taken[value] for value in cases[case])))
        missing -= cases[best]
        taken.update(cases[best])
        yield best


def values(params):
    """Each parameter with its value, a named tuple's fields apart: {name: value} -> a set."""
    found = set()
    for name, value in params.items():
        fields = value._asdict() if hasattr(value, "_asdict") else {"": value}
        found |= {(name, field, repr(part)) for field, part in fields.items()}
    return found


def some(names, *chosen):
    """The values of a parameter, of which those not chosen wait for --full."""
    assert {*chosen} <= {*names}
    return [name if name in chosen else pytest.param(name, marks=pytest.mark.long) for name in names]
