"""Pictures for the README, the help pages and the template browser, all made by scripts."""

from ..package import as_package

as_package()
