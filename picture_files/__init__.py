"""Picture files as people have them, for `nodes` and `headless` alike."""
