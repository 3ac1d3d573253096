"""The method on diffusers: a model, an inversion, one pair or a block of pairs; all that a notebook needs."""
