"""Words, the named properties of a run that a user may say, and the runs of tables and figures."""
