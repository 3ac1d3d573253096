"""Portraits times styles on two real raylets: the bytes of one process, whatever is killed in the middle."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from magicstyle.model_files.demo import DEMO_MODEL
from magicstyle.tests.headless.conftest import drawn
from magicstyle.tests.host.locate import PACK

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray and S3: pip install -r requirements-ray.txt", allow_module_level=True)

from magicstyle.tests.ray.cluster import Cluster

pytestmark = pytest.mark.ray
PORTRAITS, STYLES, BLOCK = 24, 12, "6x4"
UNITS = PORTRAITS * STYLES // 24
OPTIONS = ["--size", "64", "--steps", "1", "--block", BLOCK]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with portraits, one poisoned picture, and a library of styles."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, count, first in (("photos", PORTRAITS, 0), ("styles", STYLES, 100)):
        (folder / name).mkdir()
        for number in range(count):
            drawn(first + number).resize((96, 96)).save(folder / name / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def cluster():
    running = Cluster()
    yield running
    running.close()


@pytest.fixture(scope="module")
def expected(inputs, cluster):
    """What one process makes."""
    arguments = ["invert-styles", inputs / "styles", "--library", inputs / "library", *OPTIONS[:4]]
    assert ended(cluster.magicstyle(*arguments))[0] == 0
    arguments = ["stylize", inputs / "photos", "--library", inputs / "library", "-o", inputs / "expected", *OPTIONS]
    assert ended(cluster.magicstyle(*arguments))[0] == 0
    found = pictures(inputs / "expected")
    assert len(found) == PORTRAITS * STYLES
    return found


def ended(process):
    told, _ = process.communicate(timeout=500)
    return process.returncode, told


def pictures(folder):
    files = (path for path in Path(folder).glob("*/*/*.png") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def manifests(folder):
    return list(Path(folder).glob("manifests/*/*.json"))


def on_ray(cluster, inputs, out, photos=None, **environment):
    places = ["stylize", photos or inputs / "photos", "--library", inputs / "library", "-o", out]
    return cluster.magicstyle(*places, *OPTIONS, "--ray", cluster.address, **environment)


def wait_for(condition, process, seconds=240):
    for _ in range(seconds * 10):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.1)
    raise TimeoutError


def assert_whole(out, expected):
    found = pictures(out)
    assert found.keys() == expected.keys()
    assert all(found[name] == data for name, data in expected.items())
    assert not list(Path(out).rglob("*.part")) and len(manifests(out)) == UNITS


def test_two_nodes_make_the_bytes_of_one_process_and_a_poisoned_picture_fails_alone(
    cluster, inputs, expected, tmp_path
):
    shutil.copytree(inputs / "photos", tmp_path / "photos")
    code, told = ended(on_ray(cluster, inputs, tmp_path / "out"))
    assert code == 0 and f"{PORTRAITS * STYLES} made, 0 finished earlier" in told, told[-3000:]
    assert "rows through the model for each" in told and "a minute" in told
    assert_whole(tmp_path / "out", expected)
    (tmp_path / "photos" / "poison.png").write_bytes(b"no picture")
    code, told = ended(on_ray(cluster, inputs, tmp_path / "out", tmp_path / "photos"))
    assert code == 1 and "poison.png failed: poison.png is not a picture" in told, told[-3000:]
    assert pictures(tmp_path / "out") == expected


def test_a_worker_that_is_killed_loses_and_doubles_nothing(cluster, inputs, expected, tmp_path):
    running = on_ray(cluster, inputs, tmp_path / "out")
    wait_for(lambda: manifests(tmp_path / "out") and cluster.workers(), running)
    victim = cluster.workers()[0]
    victim.kill()
    code, told = ended(running)
    assert code == 0 and f"{PORTRAITS * STYLES} made" in told, told[-3000:]
    assert_whole(tmp_path / "out", expected)


def test_a_driver_that_is_killed_is_started_again_and_makes_the_rest(cluster, inputs, expected, tmp_path):
    running = on_ray(cluster, inputs, tmp_path / "out")
    wait_for(lambda: len(manifests(tmp_path / "out")) >= 2, running)
    running.kill()
    running.wait()
    wait_for_end_of(cluster)
    left = len(manifests(tmp_path / "out"))
    code, told = ended(on_ray(cluster, inputs, tmp_path / "out"))
    assert code == 0 and f"{24 * (UNITS - left)} made, {24 * left} finished earlier" in told, told[-3000:]
    assert_whole(tmp_path / "out", expected)


def wait_for_end_of(cluster):
    """Ray ends the workers of a driver that is gone."""
    for _ in range(300):
        if not cluster.workers():
            return
        time.sleep(0.1)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="may not mount")
def test_a_disk_that_fills_up_stops_the_run_and_a_rerun_makes_the_rest(cluster, inputs, expected, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={sum(map(len, expected.values())) // 2}", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        code, told = ended(on_ray(cluster, inputs, disk / "out"))
        assert code == 1 and "No space left on device" in told, told[-3000:]
        made = pictures(disk / "out")
        assert 0 < len(made) < len(expected) and all(expected[name] == data for name, data in made.items())
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        code, told = ended(on_ray(cluster, inputs, disk / "out"))
        assert code == 0, told[-3000:]
        assert_whole(disk / "out", expected)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_machine_with_another_model_stops_itself_and_its_units_go_to_the_others(cluster, inputs, expected, tmp_path):
    """It would answer fastest, and so get most of the units."""
    other = pack_with_another_model(tmp_path / "other")
    node = cluster.start(f"--address={cluster.address}", PYTHONPATH=cluster.path_with(other))
    try:
        cluster.wait(3)
        code, told = ended(on_ray(cluster, inputs, tmp_path / "out"))
    finally:
        end(node)
    assert code == 0 and f"{PORTRAITS * STYLES} made, 0 finished earlier" in told, told[-3000:]
    assert "the demo model is magicstyle_demo.safetensors" in told and "copy the same file to every machine" in told
    assert_whole(tmp_path / "out", expected)


def pack_with_another_model(folder):
    """A folder that Python finds this pack in, but for one byte of the demo model."""
    pack = folder / "magicstyle"
    shutil.copytree(PACK / "assets", pack / "assets")
    model = pack / "assets" / DEMO_MODEL.name
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    for package in [path.parent for path in PACK.glob("*/__init__.py")]:  # real files: the pack follows links
        shutil.copytree(package, pack / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACK / "pyproject.toml", pack)
    return folder


def end(node):
    """Kill a launcher and what it has started, its raylet first, so that it starts nothing again."""
    processes = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    node.wait(timeout=20)


def test_a_node_that_is_lost_loses_and_doubles_nothing(cluster, inputs, expected, tmp_path):
    """The last test of this cluster, which has one node afterwards."""
    running = on_ray(cluster, inputs, tmp_path / "out")
    wait_for(lambda: manifests(tmp_path / "out") and cluster.workers(), running)
    cluster.raylets()[1].kill()
    code, told = ended(running)
    assert code == 0 and f"{PORTRAITS * STYLES} made" in told, told[-3000:]
    assert_whole(tmp_path / "out", expected)
