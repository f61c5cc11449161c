"""Opens what users pass as simulations, and reads it."""
