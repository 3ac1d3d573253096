"""Where it runs: the host's attention calls, read and answered. Only install.py imports the host."""
