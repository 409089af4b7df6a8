"""Words that a user may say, and the runs that an exhibit needs. Nothing here trains."""
