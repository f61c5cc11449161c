"""Everything between a call of `fit` and new weights."""
