"""Films read over a network: how FFmpeg goes on after a broken connection, and what is said when it cannot."""

from __future__ import annotations

import av

# Seconds until a source has to have answered, and that one packet may take with all attempts to connect again.
OPEN_S, READ_S = 15.0, 60.0

# Where a connection ends or stalls before the Content-Length is reached, FFmpeg asks for the rest (a byte range), after
# 0, 1 and 3 seconds. Protocols and formats that know nothing of an option leave it alone.
OPTIONS = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "3", "rw_timeout": "5000000",
           "seg_max_retry": "3"}


def error_text(error: av.FFmpegError) -> str:
    """An error of a network source as text; FFmpeg calls a time-out of ours "Immediate exit requested"."""
    return "it gives no answer" if isinstance(error, av.ExitError) else error.strerror or "unknown error"
