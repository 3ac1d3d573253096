"""The same method on diffusers, for machines without ComfyUI: the `magicstyle` command."""
