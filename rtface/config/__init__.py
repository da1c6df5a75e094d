"""Settings of a run: options and their sources, addresses, and the administrator's policy."""
