"""Control of a live run: keys, status line, HTTP server, preview."""
