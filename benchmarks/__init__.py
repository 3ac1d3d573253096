"""Ratios measured in one run, printed as tables: python -m benchmarks.speed, and so on."""

import sys

if "magicstyle" not in sys.modules:  # else it may be magicstyle.benchmarks, beside which there are no `tools`
    from tools.package import as_package

    as_package()
