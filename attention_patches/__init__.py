"""Where it runs: attention calls of any kind of model, read and answered. Only comfy/ imports the host."""
