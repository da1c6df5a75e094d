"""Requests that are wrong on purpose get nothing, and the studio goes on answering."""

from __future__ import annotations

import pytest

from benchmarks.studio.hostile import SECRET, Target, attack
from tests.studio.conftest import RunningStudio


@pytest.mark.slow
def test_hostile_requests_get_nothing(studio: RunningStudio) -> None:
    (studio.folder.parent / "secret").mkdir()
    (studio.folder.parent / "secret" / "file").write_bytes(SECRET)
    found = attack(Target.of(studio.server), studio.folder, 300, 30)
    assert not found["leaks"] and not found["unanswered"]
    assert set(found["statuses"]) <= {"200", "206", "400", "403", "404", "405", "413", "416", "none"}, found
    assert found["statuses"]["403"] > 100
