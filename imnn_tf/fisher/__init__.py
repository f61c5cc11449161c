"""The Fisher information with its error, and how it depends on the number of simulations."""
