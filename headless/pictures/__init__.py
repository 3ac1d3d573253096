"""Picture files: reading, working sizes, masks, PNGs with a record, sheets."""
