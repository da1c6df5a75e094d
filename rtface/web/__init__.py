"""Shares code between the web servers of studio and live runs: sockets, access, requests, errors."""
