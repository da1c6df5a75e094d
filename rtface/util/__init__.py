"""Small helpers that know nothing of frames, engines or options."""
