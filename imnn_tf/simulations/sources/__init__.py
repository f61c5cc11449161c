"""What users pass as simulations, opened for reading."""
