"""Opens, probes and decodes films, also damaged ones."""
