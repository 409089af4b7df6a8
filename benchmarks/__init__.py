"""Speed of the engine beside others, and effects of its precisions on the results."""
