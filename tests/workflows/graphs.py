"""The API-format twins, and how tests make them small enough for a CPU."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from magicstyle.tools.workflows.titles import NEWER

API_FOLDER = Path(__file__).with_name("api")
UI_FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in API_FOLDER.glob("*.json"))
Graph = dict[str, dict[str, Any]]
FOLDER_OF_PORTRAITS = ("portrait.png", "style.png")  # what tests put into the folder that a workflow names
# the files that tests choose in the picture nodes
CHOSEN = {
    "Portrait": "portrait.png",
    "Style picture": "style.png",
    "Style picture 1": "style.png",
    "Style picture 2": "style_2.png",
}
OUTPUTS = {"TrainLoraNode": ("lora", "loss_map", "steps")}  # of ComfyUI 0.33; 0.3.64 hands out a model before them
PAINTED = "painted_"  # begins the name of a picture that has a mask, as the mask editor saves it


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def saved_files() -> dict[str, Path]:
    """What the frontend opens, by the name under which tests know it; a file's own name is what users read."""
    return {read(path)["extra"]["magicstyle"]: path for path in UI_FOLDER.glob("*.json")}


def title(name: str) -> str:
    """What the template browser calls a workflow."""
    return saved_files()[name].stem


def saved(name: str) -> dict[str, Any]:
    """A workflow as the frontend opens it."""
    return read(saved_files()[name])


def lacking(server: Any, name: str) -> set[str]:
    """The classes that a host lacks for a workflow that needs a newer one; none for all others."""
    return {node["class_type"] for node in api(name).values()} - server.object_info().keys() if name in NEWER else set()


def moved(server: Any, name: str) -> set[str]:
    """The classes whose outputs an older host has in another order than a workflow's file."""
    known = server.object_info()
    used = {node["class_type"] for node in api(name).values()} & OUTPUTS.keys() & known.keys()
    return {kind for kind in used if tuple(known[kind]["output_name"]) != OUTPUTS[kind]}


def for_host(server: Any, graph: Graph) -> Graph:
    """A graph whose links begin at the outputs of the same names in this host."""
    graph, known = copy.deepcopy(graph), server.object_info()
    for node in graph.values():
        for link in (value for value in node["inputs"].values() if isinstance(value, list)):
            kind = graph[link[0]]["class_type"]
            if kind in OUTPUTS:
                link[1] = known[kind]["output_name"].index(OUTPUTS[kind][link[1]])
    return graph


def api(name: str) -> Graph:
    """A workflow's graph, without what the server ignores."""
    graph = read(API_FOLDER / f"{name}.json")
    return {key: {field: node[field] for field in ("class_type", "inputs")} for key, node in graph.items()}


def chosen(title: str, *, masked: bool) -> str:
    """The file that tests choose in a picture node, with a mask where the workflow uses the node's MASK."""
    return PAINTED * masked + CHOSEN[title]


def draws_mask(graph: Graph, loader: str) -> bool:
    """Whether a graph uses the MASK of one of its Load Image nodes: what the user has painted on a picture."""
    return any(value == [loader, 1] for node in graph.values() for value in node["inputs"].values())


def with_pictures(name: str) -> Graph:
    """A workflow's graph after the user has chosen pictures: each has a name of its own, such as style_2.png."""
    graph, titled = api(name), read(API_FOLDER / f"{name}.json")
    for key, node in graph.items():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = chosen(titled[key]["_meta"]["title"], masked=draws_mask(graph, key))
    return graph


def substituted(graph: Graph, **values: Any) -> Graph:
    """A copy in which every literal input of one of these names has a new value."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        for name in values.keys() & node["inputs"].keys():
            if not isinstance(node["inputs"][name], list):
                node["inputs"][name] = values[name]
    return graph


def with_frames(graph: Graph, frames: int) -> Graph:
    """A copy whose films have no more than so many pictures; what takes one picture of a batch still takes one."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if "length" in node["inputs"]:
            node["inputs"]["length"] = min(node["inputs"]["length"], frames)
    return graph


def trained_shortly(graph: Graph) -> Graph:
    """A copy whose LoRAs are trained for a moment, in the precision that a CPU computes in."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if node["class_type"] == "TrainLoraNode":
            node["inputs"] |= {"steps": 1, "training_dtype": "fp32", "gradient_checkpointing": False}
    return graph


def needed(graph: Graph, key: str) -> Graph:
    """A node and all that its inputs come from."""
    links = [value[0] for value in graph[key]["inputs"].values() if isinstance(value, list)]
    before = {name: node for link in links for name, node in needed(graph, link).items()}
    return {**before, key: graph[key]}


def literals(graph: Graph, class_type: str, name: str) -> set[str]:
    """The values that nodes of a class have for an input."""
    return {node["inputs"][name] for node in graph.values() if node["class_type"] == class_type}


def only(graph: Graph, class_type: str) -> dict[str, Any]:
    """The one node of a class."""
    (node,) = (node for node in graph.values() if node["class_type"] == class_type)
    return node
