"""How fast the engine is beside others, and what its precisions do to the results."""
