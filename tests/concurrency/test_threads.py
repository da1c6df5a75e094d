"""Background threads: what they are called, and where their errors go."""

from __future__ import annotations

import pytest

from rtface.concurrency.threads import call_in_thread


def test_the_result_or_error_of_a_call_is_kept():
    assert call_in_thread("divide", divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        call_in_thread("divide", divmod, 7, 0).result(5)
