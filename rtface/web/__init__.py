"""Shared code of the studio's and the live run's web servers: sockets, access, requests, errors."""
