"""What the Comfy Registry and its scanners expect of a pack."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from magicstyle.tests.host.locate import PACK
from PIL import Image

RUNTIME = ("core", "attention_patches", "model_files", "picture_files", "nodes")
# patterns that comfy-test rejects or warns of in node packs, each for a reason: they fix the device or the precision
HAZARDS = (
    r"\.cuda\(",
    r"\.to\(\"cuda",
    r"torch\.autocast",
    r"torch\.load\(",
    r"torch\.cuda\.empty_cache\(",
    r"nn\.(Linear|Conv\dd|LayerNorm|GroupNorm|Embedding)\(",
)
FORBIDDEN_IMPORTS = r"^\s*(import|from) (subprocess|socket|urllib|requests|http|pickle|pip|ctypes)\b"


def sources(*folders):
    found = [PACK / "__init__.py"] if not folders else []
    for folder in folders or [path.name for path in PACK.iterdir() if (path / "__init__.py").exists()] + ["tests"]:
        found += (PACK / folder).rglob("*.py")
    return sorted(found)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACK)))
def test_source_can_be_read_on_any_windows(path):
    path.read_text(encoding="utf-8").encode("cp1252")


@pytest.mark.parametrize("path", sources(*RUNTIME), ids=lambda path: str(path.relative_to(PACK)))
def test_runtime_source_is_free_of_what_scanners_flag(path):
    text = path.read_text(encoding="utf-8")
    for pattern in (*HAZARDS, FORBIDDEN_IMPORTS):
        assert not re.search(pattern, text, re.MULTILINE), pattern


def test_comfy_node_validate_passes(tmp_path):
    comfy = shutil.which("comfy", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if comfy is None:
        pytest.skip("no comfy-cli found: pip install -r requirements-dev.txt")
    command = [comfy, "--skip-prompt", "--no-enable-telemetry", "node", "validate"]
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "DO_NOT_TRACK": "1"}
    result = subprocess.run(command, cwd=PACK, env=home, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "validation checks passed" in result.stdout + result.stderr


def test_requirements_and_pyproject_agree_that_nothing_is_needed():
    lines = (PACK / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    assert not re.search(r"^dependencies\s*=", (PACK / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)


def test_icon_and_banner_have_the_sizes_that_the_registry_shows():
    with Image.open(PACK / "assets" / "icon.png") as icon, Image.open(PACK / "assets" / "banner.jpg") as banner:
        assert icon.size == (400, 400)
        assert banner.width * 9 == banner.height * 21


def test_pictures_in_assets_are_small():
    found = [path for path in (PACK / "assets").rglob("*") if path.suffix in (".png", ".jpg")]
    assert found and {path.name: size for path in found if (size := path.stat().st_size) >= 600_000} == {}


def test_every_workflow_has_a_small_square_thumbnail_beside_it():
    workflows = sorted((PACK / "workflows").glob("*.json"))
    assert workflows
    for path in workflows:
        thumbnail = path.with_suffix(".jpg")
        assert thumbnail.stat().st_size < 100_000
        with Image.open(thumbnail) as picture:
            assert picture.width == picture.height >= 400
    assert {path.stem for path in (PACK / "workflows").glob("*.jpg")} == {path.stem for path in workflows}


@pytest.mark.parametrize("name", ["test", "publish"])
def test_github_workflows_are_yaml_with_jobs(name):
    text = (PACK / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"][name]["steps"]


def test_the_oldest_comfyui_that_is_needed_is_the_oldest_that_is_tested():
    workflow = (PACK / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(workflow)["jobs"]["test"]["strategy"]["matrix"]["comfyui"]
    tested = sorted(tuple(map(int, version.removeprefix("v").split("."))) for version in matrix)
    project = (PACK / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.search(r'^requires-comfyui = ">=([\d.]+)"', project, re.MULTILINE)[1]
    assert tuple(map(int, needed.split("."))) == tested[0]
    assert f"ComfyUI {needed} or newer" in (PACK / "README.md").read_text(encoding="utf-8")
    assert tested[-1] >= (0, 33, 0)  # a release of 2026
