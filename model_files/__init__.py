"""The files beside the code and those that users bring: the demo model and its pictures, SD1.5 checkpoints."""
