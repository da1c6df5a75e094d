"""Restoration networks: recipes, backends, the golden gate, and loading by name."""
