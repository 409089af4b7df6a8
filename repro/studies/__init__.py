"""Studies: measurements, exhibits and verdicts on one paper, a report on it, and beyond."""
