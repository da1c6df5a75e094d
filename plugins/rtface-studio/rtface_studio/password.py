"""Log-in by password for a remote studio, with sessions and limited attempts."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable

LEAST_LENGTH = 12
"""Minimum number of characters in a password."""
IDLE_S = 12 * 3600.0
"""A session ends after this time without requests or open pages, in seconds."""
_DELAY_FROM, _MAX_DELAY_S = 3, 300.0  # failed attempts from which the next one is delayed; maximum delay


class PasswordLogin:
    """Checks a password and manages sessions. Thread-safe.

    After three wrong passwords, an address must wait 1 second. Each additional one doubles the wait, up to 300 seconds.

    Args:
        password: password of at least 12 characters; only its salted hash is stored.
        clock: returns monotonic time in seconds.
    """

    def __init__(self, password: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._salt = secrets.token_bytes(16)
        self._hash, self._clock = self._digest(password), clock
        self._lock, self._attempt_lock = threading.Lock(), threading.Lock()
        self._sessions: dict[bytes, float] = {}  # hash of the token → time of last use
        self._failures: dict[str, tuple[int, float]] = {}  # address → failed attempts, time of next allowed attempt

    def wait_s(self, address: str) -> float:
        """Returns the seconds until this address may try again."""
        with self._lock:
            return max(0.0, self._failures.get(address, (0, 0.0))[1] - self._clock())

    def log_in(self, address: str, password: str) -> str | None:
        """Opens a session and returns its token. Returns None if the password is wrong or the attempt too early."""
        with self._attempt_lock:  # one at a time, because simultaneous attempts would evade the delay
            if self.wait_s(address) > 0:
                return None
            if hmac.compare_digest(self._digest(password), self._hash):
                token = secrets.token_urlsafe(32)
                with self._lock:
                    self._failures.pop(address, None)
                    self._sessions[_key(token)] = self._clock()
                return token
            with self._lock:
                now, count = self._clock(), self._failures.get(address, (0, 0.0))[0] + 1
                delay = min(_MAX_DELAY_S, 2.0 ** (count - _DELAY_FROM)) if count >= _DELAY_FROM else 0.0
                self._failures[address] = count, now + delay
            return None

    def knows(self, token: str) -> bool:
        """Tests whether an open session has this token, and renews the session."""
        with self._lock:
            now, key = self._clock(), _key(token)
            if now - self._sessions.get(key, -math.inf) >= IDLE_S:
                self._sessions.pop(key, None)
                return False
            self._sessions[key] = now
            return True

    def log_out(self, token: str) -> None:
        """Ends a session."""
        with self._lock:
            self._sessions.pop(_key(token), None)

    def _digest(self, text: str) -> bytes:
        return hashlib.scrypt(text.encode(), salt=self._salt, n=2**14, r=8, p=1)


def _key(token: str) -> bytes:
    """Hashes a token, so that lookup times reveal nothing about it."""
    return hashlib.sha256(token.encode()).digest()
