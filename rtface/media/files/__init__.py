"""Names, checks and hashes a run's files. Writes outputs to working files first."""
