"""The pack's pictures for the Registry, drawn by a script."""
