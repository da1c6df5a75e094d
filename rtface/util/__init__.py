"""Helpers that do not depend on frames, engines or options."""
