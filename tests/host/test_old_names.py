"""What was queued with the names that inputs had before 0.1.0; the fixture is what the page queued at that time."""

import copy
import json
import re
from types import SimpleNamespace

from magicstyle.banks.bank_file import load_bank
from magicstyle.nodes import NODES
from magicstyle.nodes.files import FOLDER, SUFFIX, register_folder
from magicstyle.nodes.old_names import RENAMED, accept_old_names, with_new_names
from magicstyle.tests.host.locate import PACK

FIXTURES = PACK / "tests" / "fixtures"
PROMPT = json.loads((FIXTURES / "old_names_prompt.json").read_text(encoding="utf-8"))
SAID = "Inputs by their old names: every -> level_stride, keep -> contents, keep -> roles, place -> storage_device."


def only(prompt, class_type):
    (node,) = (node for node in prompt.values() if node["class_type"] == class_type)
    return node["inputs"]


def schema_inputs():
    register_folder()
    schemas = (node.define_schema() for node in NODES)
    return {schema.node_id: [entry.id for entry in schema.inputs] for schema in schemas}


def test_every_old_name_has_become_an_input_and_is_none_itself():
    known = schema_inputs()
    for name, renamed in RENAMED.items():
        assert renamed and {*renamed.values()} <= {*known[name]}
        assert {*renamed}.isdisjoint(known[name])
    assert "keep" in known["MagicStylePatchFFA"]


def test_the_page_has_the_same_table():
    text = (PACK / "web" / "old_names.js").read_text(encoding="utf-8")
    inversion = re.search(r"const INVERSION = ({.*?});", text)[1]
    table = re.search(r"const RENAMED = ({.*?\n});", text, re.DOTALL)[1].replace("INVERSION", inversion)
    assert json.loads(re.sub(r",(\s*})", r"\1", table)) == RENAMED


def test_old_names_become_new_ones_and_all_else_stays():
    before = copy.deepcopy(PROMPT)
    queued = {"prompt": PROMPT, "client_id": "someone", "extra_data": {}}
    found = with_new_names(queued)
    assert before == PROMPT and {**found, "prompt": None} == {**queued, "prompt": None}
    known = schema_inputs()
    for key, node in found["prompt"].items():
        assert node["class_type"] not in known or {*node["inputs"]} <= {*known[node["class_type"]]}
        assert list(node["inputs"].values()) == list(PROMPT[key]["inputs"].values())
    content = only(found["prompt"], "MagicStyleInvertContent")
    assert (content["storage_device"], content["roles"], content["level_stride"]) == ("disk", "queries", ["1", 0])
    assert only(found["prompt"], "MagicStyleSaveFeatureBank")["contents"] == "everything"
    assert with_new_names(found) is found


def test_where_both_names_are_given_the_new_one_holds():
    node = {"class_type": "MagicStyleSaveFeatureBank", "inputs": {"keep": "everything", "contents": "styles"}}
    found = with_new_names({"prompt": {"1": node}})
    assert found["prompt"]["1"]["inputs"] == {"contents": "styles"}


def test_what_is_no_graph_of_ours_comes_back_as_it_is():
    mask = {"class_type": "MagicStylePatchFFA", "inputs": {"keep": ["3", 1]}}
    foreign = {"class_type": "SomebodysNode", "inputs": {"keep": 1, "place": 2, "every": 3}}
    odd = {"class_type": ["MagicStyleInvertStyle"], "inputs": {"keep": 1}}
    no_inputs = {"class_type": "MagicStyleInvertStyle", "inputs": ["keep"]}
    for queued in (
        {},
        {"prompt": None},
        {"prompt": [mask]},
        {"prompt": {"1": mask, "2": foreign, "3": odd, "4": None, "5": no_inputs, "6": {"inputs": {"keep": 1}}}},
    ):
        assert with_new_names(queued) is queued


def test_handlers_of_other_nodes_stay_and_run_first():
    handlers = [first := lambda queued: queued]
    server = SimpleNamespace(on_prompt_handlers=handlers, add_on_prompt_handler=handlers.append)
    accept_old_names(server)
    accept_old_names(server)
    assert handlers == [first, with_new_names]
    accept_old_names(None)  # scripts that import the host have no server


def test_a_server_runs_what_was_queued_with_old_names(server):
    """Everything that is renamed shows in what comes out: levels by a link, roles, the disk, the portrait."""
    banks = server.folder / "output" / FOLDER
    before, said = {*banks.glob("*")}, server.log.count(SAID)
    outputs = server.run(PROMPT)
    assert server.log.count(SAID) == said + 1
    (summary,) = outputs[next(key for key, node in PROMPT.items() if node["class_type"] == "PreviewAny")]["text"]
    content, style = summary.split("\n")[:2]
    assert "2 of 4 steps, every 2nd, of q in float32" in content and content.endswith("on disk")
    assert "1 of 4 steps, every 4th, of k, v in float32" in style and "in memory" in style
    (path,) = {*banks.glob(f"old_*{SUFFIX}")} - before
    bank = load_bank(path)
    assert (bank.content.roles, bank.styles[0].features.roles) == ("q", "kv")
    server.run(with_new_names({"prompt": PROMPT})["prompt"])
    assert server.log.count(SAID) == said + 1
