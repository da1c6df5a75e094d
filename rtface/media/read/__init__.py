"""Opens, probes and decodes films, even damaged ones."""
