"""Files of a run: their names, checks before any work, working files, hashes."""
