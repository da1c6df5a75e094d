"""Background threads: what they are called, and where their errors go."""

from __future__ import annotations

import threading

import pytest

from rtface.concurrency.threads import call_in_thread, start_thread


def test_a_background_thread_is_a_named_daemon():
    seen: list[threading.Thread] = []
    start_thread("look", lambda: seen.append(threading.current_thread())).join(5)
    assert seen[0].daemon and seen[0].name == "rtface-look"


def test_the_result_or_error_of_a_call_is_kept():
    assert call_in_thread("divide", divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        call_in_thread("divide", divmod, 7, 0).result(5)
