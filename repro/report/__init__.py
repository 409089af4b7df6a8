"""Turns records into tables, figures and prose. It trains nothing and changes no record.

A number is an ``estimates.Estimate`` until it is shown; ``tables`` and ``figures`` show it,
``claims`` judges by it, and ``prose`` brings it into the book's prose.
"""

__all__ = [
    "audit", "captions", "claims", "estimates", "estimators", "evidence", "explorer", "figures",
    "gradients", "logs", "others", "preregistered", "prose", "reported", "similarity", "stacks",
    "tables", "trainings", "verify",
]  # fmt: skip
