"""A short soak, and what the long one would say about a server that grows."""

import pytest
from magicstyle.benchmarks import soak
from magicstyle.tests.host.locate import ADVICE, find_host

MAX_GROWTH = 8.0  # MiB between the first and the last runs: allocators move by one or two
VARIANTS = len(soak.STEPS) * len(soak.STORAGE)  # every kind of run stands in each half


def result(rss):
    return soak.Soak(400.0, [soak.Sample(value, 20, 10, 1.0) for value in rss])


def test_growth_is_seen_in_the_ends_and_in_the_slope():
    growing = result([500 + 2 * run for run in range(50)])
    assert growing.ends == (504.0, 594.0)
    assert growing.slope == pytest.approx(2.0)
    assert "difference | +90.0 MiB" in soak.report(growing, "ComfyUI")


def test_neighbouring_runs_differ_in_what_every_costly_node_reads():
    for run in range(20):
        one, other = soak.variant(run), soak.variant(run + 1)
        assert all(one[name] != other[name] for name in one)


@pytest.mark.server
@pytest.mark.long
def test_the_demo_workflow_run_again_and_again_does_not_grow(tmp_path, monkeypatch):
    from magicstyle.tests.host.server import Server

    if find_host() is None:
        pytest.skip(ADVICE)
    # glibc keeps freed blocks of up to 32 MiB by default, more or fewer from run to run: give each back at once
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    with Server(find_host(), tmp_path) as server:
        measured = soak.soak(server, runs=2 * VARIANTS, warm_up=1)
    rss = [sample.rss for sample in measured.samples]
    assert min(rss[VARIANTS:]) - min(rss[:VARIANTS]) < MAX_GROWTH, rss
    assert measured.samples[-1].files <= measured.samples[0].files + 2
