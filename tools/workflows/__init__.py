"""Workflow files from short descriptions: what is connected to what, and which values differ from the defaults."""
