"""The texts that the frontend shows beside the nodes' own, by language."""
