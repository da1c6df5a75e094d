"""Defines a run's settings: options and their sources, addresses, and the administrator's policy."""
