"""Training: Keras's own, with torch_rim's keywords, a trajectory's loss, and exact resumption."""
