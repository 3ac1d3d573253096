"""Where it runs: the host's attention calls, read and answered. Only host/ imports the host."""
