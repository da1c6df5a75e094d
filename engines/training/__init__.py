"""Our own engines ``rtface-s`` and ``rtface-m``: data, degradations, networks, training loop, export, evaluation."""
