"""How a user's simulator runs: in batches, here or in workers, with failures and a store."""
