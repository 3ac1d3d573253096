"""Portraits, library and results in an object store, as moto's server speaks S3: the bytes of a run over folders.

The network is one attention layer, so that 24 portraits x 12 styles take seconds; the stores are the whole way real.
"""

import importlib.util
from pathlib import Path

import pytest
from magicstyle.headless import cli
from magicstyle.headless.campaign import worker
from magicstyle.tests.headless.test_rows import OneLayerModel
from PIL import Image

if any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto")):
    pytest.skip("Ray and S3: pip install -r requirements-ray.txt", allow_module_level=True)

PORTRAITS, STYLES = 24, 12
OPTIONS = ["--size", "64", "--steps", "4", "--quiet"]
PAINTING = ["--block", "6x4"]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "load_model", lambda *args: OneLayerModel())
    for folder, count in (("photos/team", PORTRAITS), ("styles", STYLES)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            Image.effect_noise((64, 64), 20 + number).save(tmp_path / folder / f"{number:02}.png")
    return tmp_path


@pytest.fixture
def bucket(monkeypatch):
    """A bucket called studio, and a client of it."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
    for name, value in {**access, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = s3fs.S3FileSystem(use_listings_cache=False)
    client.mkdir("studio")
    yield client
    client.rm("studio", recursive=True)  # moto's state is that of the process
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def run(*arguments):
    painting = PAINTING if arguments[0] == "stylize" else []
    return cli.main([*map(str, arguments), *OPTIONS, *painting])


def test_a_run_over_s3_makes_the_bytes_of_a_run_over_folders(folders, bucket, capsys):
    assert run("invert-styles", "styles", "--library", "lib") == cli.OK
    assert run("stylize", "photos", "--library", "lib", "-o", "out") == cli.OK
    expected = {path.relative_to("out").as_posix(): path.read_bytes() for path in Path("out").glob("*/team/*/*.png")}
    assert len(expected) == PORTRAITS * STYLES
    for folder in ("photos", "styles"):
        bucket.put(folder, f"studio/{folder}", recursive=True)
    assert run("invert-styles", "s3://studio/styles", "--library", "s3://studio/lib") == cli.OK
    places = ["s3://studio/photos", "--library", "s3://studio/lib", "-o", "s3://studio/out"]
    assert run("stylize", *places, "--shard", "1/2") == cli.OK
    half = made(bucket)
    assert 0 < len(half) < len(expected)
    assert run("stylize", *places) == cli.OK and made(bucket) == expected
    before = bucket.info("studio/out/" + next(iter(expected)))["LastModified"]
    assert run("stylize", *places) == cli.OK and made(bucket) == expected
    assert bucket.info("studio/out/" + next(iter(expected)))["LastModified"] == before


def made(bucket):
    files = {path.removeprefix("studio/out/"): path for path in bucket.find("studio/out") if path.endswith(".png")}
    return {name: bucket.cat_file(path) for name, path in files.items()}


def test_a_bucket_that_is_not_there_is_one_line(folders, bucket, capsys):
    places = ["s3://nowhere/photos", "--library", "s3://studio/lib", "-o", "s3://studio/out"]
    assert run("stylize", *places) == cli.UNUSABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("magicstyle: ") and "bucket does not exist" in line
