"""From a published file of weights to a network that rtface runs: see ``engines/README.md``."""
