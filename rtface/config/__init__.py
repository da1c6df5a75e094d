"""What a run may be asked for: options and where their values come from, addresses, the administrator's policy."""
