"""Damaged bank files: refused by our own error, or whole. MAGICSTYLE_SLOW=1 tries two thousand."""

import os
from collections import Counter

import pytest

pytest.importorskip("resource", reason="peak memory is not told on this system")

from magicstyle.banks.bank_file import load_bank
from magicstyle.tests.core.bank_fuzz import Fuzzer, same_bank, use

SEEDS = range(2000 if os.environ.get("MAGICSTYLE_SLOW") else 150)


def test_damaged_banks_are_refused_by_our_error_or_are_whole_and_cost_little(tmp_path):
    fuzzer = Fuzzer(tmp_path)
    verdicts = Counter(fuzzer.verdict(seed) for seed in SEEDS)
    print(dict(verdicts))
    assert verdicts["refused"] > 0.75 * len(SEEDS)


def test_the_bank_that_is_damaged_is_whole_before(tmp_path):
    fuzzer = Fuzzer(tmp_path)
    use(load_bank(fuzzer.saved))
    same_bank(load_bank(fuzzer.saved), fuzzer.bank)
