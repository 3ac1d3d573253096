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


class ModelDouble:
    """A model of which some methods do something else; the rest is the model's own."""

    def __init__(self, model, **methods):
        self._model, self._methods = model, methods

    def __getattr__(self, name):
        return self._methods.get(name) or getattr(self._model, name)


class Loads(list):
    """What was loaded, in place of loading it: the arguments of each call."""

    def __init__(self, model):
        super().__init__()
        self.plain = self.model = model

    def load(self, *args):
        self.append(args)
        return self.model

    def change(self, **methods):
        """What is loaded from now on is a double with such methods."""
        self.model = ModelDouble(self.plain, **methods)


@pytest.fixture
def loads(monkeypatch, model):
    """How often a run loads a model; the demo model is loaded once for all tests."""
    seen = Loads(model)
    monkeypatch.setattr("magicstyle.headless.engine.model.load_model", seen.load)
    return seen


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
