"""Names, checks, working files and hashes of a run's files."""
