"""DDIM Inversion (Content) and (Style): an order, its checks and budget, the walk inside the host."""
