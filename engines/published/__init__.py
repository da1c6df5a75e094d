"""Networks that others published, in our own code; a Python with torch runs them, rtface does not."""
