"""The demo model: procedural portraits and the small latent diffusion model that is trained on them."""

from ..package import as_package

as_package()
