"""Results on disk: an archive of records, their provenance, and a number with its error."""

from repro.records.archive import (
    CURVE,
    METRICS,
    Archive,
    Record,
    Selection,
    curves_of,
    frame_of,
    omniglot_of,
    read,
    records_of_any_seed,
    results_folder,
    root,
)
