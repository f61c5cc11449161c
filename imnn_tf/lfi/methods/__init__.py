"""The parts that the methods of inference are made of."""
