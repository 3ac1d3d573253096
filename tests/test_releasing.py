"""What docs/releasing.md demands and a test can see."""

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


def steps():
    """Every step of the workflows on GitHub, as (file, step)."""
    for path in sorted((PACK / ".github" / "workflows").glob("*.yml")):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            yield from ((path.name, step) for step in job["steps"])


def test_actions_of_others_are_pinned_to_a_commit():
    """A branch or a tag may be moved; GitHub's own actions are trusted as the runner is."""
    foreign = [step["uses"] for _, step in steps() if "uses" in step and not step["uses"].startswith("actions/")]
    assert foreign and all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", use) for use in foreign), foreign


def test_every_python_between_the_oldest_and_the_newest_that_is_promised_is_tested_at_both_ends():
    workflow = yaml.safe_load((PACK / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    tested = {*matrix["python"], *(more["python"] for more in matrix["include"])}
    promised = re.findall(r"Python :: (3\.\d+)", PROJECT)
    assert {promised[0], promised[-1], "3.11"} <= tested <= set(promised)
    assert re.search(r'^requires-python = ">=(.+)"$', PROJECT, re.MULTILINE)[1] == promised[0]
    versions = [step["with"]["python-version"] for _, step in steps() if "python-version" in step.get("with", {})]
    assert versions == ["${{ matrix.python }}"]


def test_archive_leaves_out_what_only_developers_need_and_keeps_what_users_need():
    ignored = (PACK / ".comfyignore").read_text(encoding="utf-8").splitlines()
    assert {"tests/", "tools/", "benchmarks/", "run.py", "requirements-benchmarks.txt"} <= set(ignored)
    assert "requirements-dev.txt" in ignored
    needed = (
        "core",
        "attention_patches",
        "model_files",
        "picture_files",
        "nodes",
        "workflows",
        "subgraphs",
        "web",
        "locales",
    )
    assert not {f"{name}/" for name in needed} & set(ignored)
