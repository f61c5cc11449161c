"""What several parts of the packages need, each written once."""
