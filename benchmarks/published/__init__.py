"""Waits for the weights of SD1.4 and of the metrics' networks, and was never run with them: StyleID's published table.

docs/published.md says what to fetch; the tests run it on small stand-ins.
"""
