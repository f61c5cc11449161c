"""A `NeuralPosterior` in a folder."""
