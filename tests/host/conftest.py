"""Fixtures over a real ComfyUI, in this process, on the CPU."""

import pytest
from magicstyle.tests.host.locate import find_host
from magicstyle.tests.host.shims import use_host

HOST = find_host()
if HOST is not None:
    use_host(str(HOST))
    import torch

    torch.set_num_threads(1)  # the networks are small: threads that wait for each other cost more than they save


@pytest.fixture
def tiny_model():
    """A fresh MODEL over the miniature UNet; its weights are shared and stay as they are."""
    from magicstyle.tests.host import tiny

    return tiny.tiny_model()


@pytest.fixture(scope="session")
def tiny_conditioning():
    """Factory: tiny_conditioning(tokens=77, seed=1, batch=1)."""
    from magicstyle.tests.host import tiny

    return tiny.tiny_conditioning


@pytest.fixture(scope="session")
def tiny_latent():
    """Factory: tiny_latent(height=16, width=16, batch=1, seed=2)."""
    from magicstyle.tests.host import tiny

    return tiny.tiny_latent


@pytest.fixture(scope="session")
def tiny_sigmas():
    """Factory: tiny_sigmas(model, steps, scheduler)."""
    from magicstyle.tests.host import tiny

    return tiny.tiny_sigmas


@pytest.fixture(scope="session")
def run_sampler():
    """Helper: run_sampler(model, latent, sigmas, cfg, positive, negative, sampler="ddim")."""
    from magicstyle.tests.host import tiny

    return tiny.run_sampler
