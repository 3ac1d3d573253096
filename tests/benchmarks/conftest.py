"""The benchmarks of the demo model import diffusers: stand-ins first, which host tests of this process need."""

from magicstyle.tests.host.shims import install_shims

install_shims()
