"""The comparison with StyleID's published table, for a user who has the weights: docs/published.md."""
