"""Figures of posteriors and of simulations."""
