"""What stands around a live run: keys, status line, control endpoint, preview, figures."""
