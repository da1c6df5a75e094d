"""CodeFormer for rtface: network, offers, and the published names of its weights.

The package contains no weights. The published weights forbid commercial use; see ``offers.toml``.
"""
