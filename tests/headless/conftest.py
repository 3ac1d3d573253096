"""Pictures to stylize, and the demo model."""

from functools import cache

import pytest
from magicstyle.tests.host.shims import install_shims

install_shims()  # diffusers must not hide a torchvision that the host tests need later in this process


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model():
    """The demo model."""
    from magicstyle.headless.engine.model import load_demo_model

    return load_demo_model()


@pytest.fixture
def pictures(tmp_path):
    """Factory: pictures("a.png", ..) writes portraits of different seeds and returns their paths."""

    def write(*names):
        paths = [tmp_path / name for name in names]
        for seed, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn(seed).save(path)
        return paths

    return write


@cache
def drawn(seed):
    from magicstyle.tools.demo_model.portraits import portrait
    from PIL import Image

    return Image.fromarray(portrait(2_000_000 + seed).image)
