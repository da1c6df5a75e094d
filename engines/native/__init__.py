"""Our own engines ``rtface-s`` and ``rtface-m``: data, degradations, training, export and evaluation."""
