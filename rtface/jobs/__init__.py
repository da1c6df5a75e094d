"""Films that finish: films as jobs (`FilmJob`), and the queue of films (`rtface.jobs.queue`).

A job divides a film into segments that are finished one by one, by any number of workers, whatever ends them. The
names are imported on first use, so that a command line that only reads options imports no codec.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtface.jobs.folder import folder_of
    from rtface.jobs.job import FilmJob
    from rtface.jobs.status import JobStatus

__all__ = ["FilmJob", "JobStatus", "folder_of"]

_MODULES = {"FilmJob": "job", "JobStatus": "status", "folder_of": "folder"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"rtface.jobs.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'rtface.jobs' has no attribute {name!r}")
