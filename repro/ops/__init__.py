"""Operations: does a machine train right, many runs in jobs, one archive for others to check."""
