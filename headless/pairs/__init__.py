"""A run in a folder of this machine: its plan, and the jobs one after another or in blocks."""
