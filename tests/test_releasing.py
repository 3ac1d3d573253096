"""What docs/releasing.md asks for and a test can see."""

import json
import re

import yaml
from magicstyle.tests.host.locate import PACK

PROJECT = (PACK / "pyproject.toml").read_text(encoding="utf-8")
VERSION = re.search(r'^version = "(.+)"$', PROJECT, re.MULTILINE)[1]


def test_version_has_three_numbers_as_the_registry_takes_it():
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_newest_section_of_the_changelog_is_this_version():
    changelog = (PACK / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)(?: \(unreleased\))?$", changelog, re.MULTILINE)
    assert newest[1] == VERSION


def test_workflows_name_this_version_on_every_node_of_the_pack():
    files = sorted(PACK.glob("workflows/*.json")) + sorted(PACK.glob("subgraphs/*.json"))
    assert files
    for path in files:
        saved = json.loads(path.read_text(encoding="utf-8"))
        pages = [saved, *saved.get("definitions", {}).get("subgraphs", ())]
        nodes = [node for page in pages for node in page["nodes"]]
        ours = [node["properties"] for node in nodes if node["type"].startswith("MagicStyle")]
        assert ours and {(p["cnr_id"], p["ver"]) for p in ours} == {("magicstyle", VERSION)}, path.name


def test_publishing_starts_when_the_version_changes():
    text = (PACK / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow[True]["push"] == {"branches": ["main"], "paths": ["pyproject.toml"]}  # yaml reads `on` as true


def test_archive_leaves_out_what_only_developers_need_and_keeps_what_users_need():
    ignored = (PACK / ".comfyignore").read_text(encoding="utf-8").splitlines()
    assert {"tests/", "tools/", "benchmarks/", "run.py", "requirements-dev.txt"} <= set(ignored)
    needed = ("core", "attention_patches", "model_files", "nodes", "workflows", "subgraphs", "web", "locales")
    assert not {f"{name}/" for name in needed} & set(ignored)
