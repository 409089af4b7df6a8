"""Operations: checks of a machine, many runs in jobs, and one archive for others to check."""
