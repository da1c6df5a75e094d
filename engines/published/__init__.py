"""Published networks of others in our own code; only a Python with torch runs them."""
