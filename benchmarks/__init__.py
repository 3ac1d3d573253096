"""Ratios measured in one run, printed as tables: python -m benchmarks.speed, and so on."""
