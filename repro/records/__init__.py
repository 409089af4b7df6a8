"""Results on disk: an archive of records, what made each, and a number with its error."""

from repro.records.archive import (
    CURVE,
    METRICS,
    Archive,
    Record,
    Selection,
    curves_of,
    frame_of,
    of_any_seed,
    omniglot_of,
    read,
    results_folder,
    root,
)

__all__ = [
    "CURVE", "METRICS", "Archive", "Record", "Selection", "curves_of", "frame_of", "of_any_seed",
    "omniglot_of", "read", "results_folder", "root",
]  # fmt: skip
