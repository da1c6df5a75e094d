"""Outputs of live runs: virtual cameras, streams, recordings; and the list of all, those of plugins too."""
