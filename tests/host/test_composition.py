"""Every cell of the composition matrix, against a real ComfyUI."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.core.controls import StyleControls
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.word_regions import StyleWords
from magicstyle.tests.host.composition.flow import FLOW_ROWS, KINDS, flow_table
from magicstyle.tests.host.composition.graph import SD15, base, large_guided
from magicstyle.tests.host.composition.matrix import (
    BOTH_ACT,
    LAYERS,
    SAME_PICTURE,
    SHARES,
    STORAGES,
    Cell,
    Verdict,
    alone,
    bank_for,
    both,
    cells,
    check_both_act,
    distance,
    effect,
    neighbour_alone,
    ours_alone,
    verdict,
    warnings_of_ours,
)
from magicstyle.tests.host.composition.rows import ROWS
from magicstyle.tests.host.families import FAMILIES
from magicstyle.tests.host.locate import PACK, find_host
from safetensors import safe_open

FLAGS = Path(__file__).with_name("flags.py")
IN_TWO_STAGES = "rsa, words"
EXACT = 1e-3  # of an effect: what rounding may change
ABSENT = [kind for name, kind in KINDS.items() if name not in FAMILIES]  # that this host does not have
EVERY = (*ROWS, *(row for row in FLOW_ROWS if row.kind not in ABSENT))


def of(outcome):
    return pytest.mark.parametrize("cell", [cell for cell in cells(EVERY) if cell.row.outcome == outcome], ids=str)


@pytest.fixture
def note(record_property):
    """Tell the table at the end of the run about a cell, and how much of each effect was left."""

    def tell(cell, seen=None):
        summary = (
            f"{'' if cell.row.kind is SD15 else f'{cell.row.kind.name}: '}{cell.row.name}",
            *cell.row.summary[1:],
        )
        record_property("composition", json.dumps([*summary, seen]))

    return tell


@pytest.mark.either
@of(BOTH_ACT)
def test_both_act(cell, note):
    note(cell)
    on, ours = cell.tried.on, ours_alone(cell.tried.on, cell.storage, cell.row.layers)
    picture, warnings = both(cell)
    seen = verdict(alone(on), neighbour_alone(cell.tried), ours, picture)
    note(cell, seen)
    check_both_act(seen)
    check_warnings(warnings, cell.row.warns)
    # neither the storage nor the order of the nodes makes a difference
    assert distance(picture, both(Cell(cell.row, cell.tried))[0]) <= EXACT * effect(ours, alone(on))


@pytest.mark.either
@pytest.mark.parametrize("neighbour", ["ControlNet", "LoRA"])
@pytest.mark.parametrize("method", [*(name for name in FUSIONS if name != "nvqg"), IN_TWO_STAGES])
def test_every_method_acts_beside_a_controlnet_and_a_lora(method, neighbour):
    tried = next(row for row in ROWS if row.name == neighbour).tried[0]._replace(on=large_guided)
    graph, neither = large_guided(), alone(large_guided)
    with warnings_of_ours() as messages:
        ours, both = (by_method(wired, method).picture() for wired in (graph, tried.wire(graph)))
    check_both_act(verdict(neither, neighbour_alone(tried), ours, both))
    assert not messages
    if method == IN_TWO_STAGES:
        assert distance(ours, by_method(graph, "rsa").picture()) > EXACT * effect(ours, neither)


@pytest.mark.either
@pytest.mark.parametrize("neighbour", ["ControlNet", "LoRA", "FreeU"])
def test_the_portraits_detail_is_added_beside_others(neighbour):
    """These graphs' strong pictures look alike to the ResNets: what detail changes is compared with itself."""
    tried = next(row for row in ROWS if row.name == neighbour).tried[0]._replace(on=large_guided)

    def change(graph):
        bank = bank_for(graph, "latents")
        settings = (FusionSettings("mast", controls=StyleControls(detail=detail)) for detail in (1.0, 0.0))
        models = (install_fusion(graph.model, bank, chosen, LAYERS, 0.0, 1.0) for chosen in settings)
        return distance(*(graph.but(model=model).picture() for model in models))

    with warnings_of_ours() as messages:
        alone, beside = change(large_guided()), change(tried.wire(large_guided()))
    assert beside > 0.3 * alone > 0.003
    assert not messages


def by_method(graph, method):
    """The graph fused by a method at its defaults; `rsa` also in two stages, with words in the graph's own prompt."""
    spans, others = ((3, 4),), (0, 1, 2, 5, 6)
    words = (
        StyleWords(spans, others, graph.positive[0][0], background=1.0, after=0.25) if method == IN_TWO_STAGES else None
    )
    settings = FusionSettings(method.split(",")[0])
    model = install_fusion(graph.model, bank_for(graph, "features"), settings, LAYERS, 0.0, 1.0, words=words)
    return graph.but(model=model)


@pytest.mark.either
@of(SAME_PICTURE)
def test_same_picture(cell, note):
    note(cell)
    on, row = cell.tried.on, cell.row
    ours, neither = ours_alone(on, cell.storage, row.layers), alone(on)
    small = EXACT * effect(ours, neither)
    acted = row.witness()
    picture, warnings = both(cell)
    assert row.witness() > acted
    assert distance(picture, ours) <= small and distance(neighbour_alone(cell.tried), neither) <= small
    check_warnings(warnings, row.warns)


@pytest.mark.parametrize("cell", [cell for cell in cells(ROWS) if cell.row.yields], ids=str)
def test_ours_yields_where_the_neighbour_leaves_it_nothing(cell):
    """Fused there alone, the picture is the neighbour's, to the bit; without it, ours would act."""
    row, on = cell.row, cell.tried.on
    picture, warnings = both(cell, row.yields)
    assert torch.equal(picture, neighbour_alone(cell.tried))
    assert effect(ours_alone(on, cell.storage, row.yields), alone(on))
    check_warnings(warnings, row.warns or f"{row.yields}.0.0")


@pytest.mark.parametrize("row", [row for row in ROWS if row.flag], ids=lambda row: row.name)
def test_the_attention_that_a_flag_chooses_gives_the_same_picture(row, note, tmp_path):
    note(Cell(row, None))
    out = tmp_path / "pictures.safetensors"
    command = [sys.executable, str(FLAGS), str(find_host()), str(out), row.name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    with safe_open(out, "pt") as pictures:
        assert pictures.metadata()["attention"] == f"attention_{row.flag}"
        small = EXACT * effect(ours_alone(base, "features", row.layers), alone(base))
        assert distance(pictures.get_tensor("plain"), alone(base)) <= small
        for storage in STORAGES:
            assert distance(pictures.get_tensor(storage), ours_alone(base, "features", row.layers)) <= small


def test_the_page_on_other_nodes_lists_the_matrix_row_by_row():
    text = (PACK / "docs" / "neighbours.md").read_text(encoding="utf-8")
    table = text.split("| beside | tried | what holds |\n| --- | --- | --- |\n")[1].split("\n\n")[0]
    assert table.splitlines() == [f"| {' | '.join(row.summary)} |" for row in ROWS]


def test_the_page_on_other_nodes_lists_what_was_tried_beside_transformers():
    text = (PACK / "docs" / "neighbours.md").read_text(encoding="utf-8")
    table = text.split("| beside a transformer | tried | what holds |\n| --- | --- | --- |\n")[1].split("\n\n")[0]
    assert table.splitlines() == [f"| {' | '.join(row)} |" for row in flow_table()]


def check_warnings(warnings, layers):
    assert len(warnings) == bool(layers), warnings
    assert all(f" of {layers};" in warning for warning in warnings)


@pytest.mark.parametrize("lost", ["neighbour", "ours"])
def test_a_side_that_stops_acting_fails_its_cell(lost):
    cell = next(cell for cell in cells(ROWS) if cell.row.name == "FreeU")
    pictures = {
        "neither": alone(cell.tried.on),
        "neighbour": neighbour_alone(cell.tried),
        "ours": ours_alone(cell.tried.on, cell.storage, cell.row.layers),
    }
    left = {"neighbour": "ours", "ours": "neighbour"}[lost]
    with pytest.raises(AssertionError, match=f"of {lost}'s effect 0 times is left"):
        check_both_act(verdict(**pictures, both=pictures[left]))
    check_both_act(Verdict(1.0, 1.0))
    for share in SHARES:
        with pytest.raises(AssertionError):
            check_both_act(Verdict(share * 1.01 if share > 1.0 else share * 0.99, 1.0))
