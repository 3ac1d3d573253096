"""Interrupt and caching in a real ComfyUI, as users meet them."""

import time

import pytest
from magicstyle.tests import photographs
from magicstyle.tests.host.server import PromptInterrupted
from magicstyle.tests.workflows import graphs


@pytest.fixture
def graph(server):
    for picture, draw in (("portrait.png", photographs.portrait), ("style.png", photographs.style)):
        server.upload(picture, draw((128, 128)))
    return graphs.substituted(
        graphs.with_pictures("portrait_stylization"), width=128, height=128, steps=4, ckpt_name="tiny_full.ckpt"
    )


def inversions(entry):
    """Which of the two inversions a finished prompt took from the cache."""
    cached = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
    graph = entry["prompt"][2]
    return {graph[node]["class_type"] for node in cached if "Invert" in graph[node]["class_type"]}


def test_interrupt_stops_an_inversion_within_seconds_and_the_next_run_is_whole(server, graph):
    slow = graphs.substituted(graph, steps=1000)
    prompt = server.queue(slow)
    deadline = time.monotonic() + 120
    while prompt not in str(server.get("queue")["queue_running"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(4)  # long enough to be inside the walk of 999 steps, short enough not to be through
    interrupted = time.monotonic()
    server.interrupt()
    with pytest.raises(PromptInterrupted):
        server.wait(prompt)
    assert time.monotonic() - interrupted < 20
    assert server.images(server.run(graph))


def test_changing_a_knob_of_the_patcher_runs_neither_inversion_again(server, graph):
    server.run(graph)
    entry = server.wait(server.queue(graphs.substituted(graph, query_preservation=0.31)))
    assert inversions(entry) == {"MagicStyleInvertContent", "MagicStyleInvertStyle"}
    again = server.wait(server.queue(graphs.substituted(graph, query_preservation=0.31)))
    assert len(dict(again["status"]["messages"])["execution_cached"]["nodes"]) == len(graph)
