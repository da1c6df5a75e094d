"""Lists the persons in a live run, each with face and strength."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import cv2

from rtface.enhance.live import LiveEnhancer
from rtface.errors import InputMissing
from rtface.live.controls import LiveControls
from rtface.persons.recogniser import PersonRecogniser

_SIDE, _QUALITY = 128, 85
"""Side of a face image in pixels, and its JPEG quality."""
_IN_VIEW_S = 1.0
"""Seconds without a face after which a person is out of view."""


class PersonsInView:
    """Recognises persons as soon as a user asks for it; thread-safe.

    Args:
        enhance: enhancement step; it recognises persons from the start, or after `recognise`.
        load: function that loads the recogniser.
        controls: settings, including the strength of each person.
        clock: returns seconds on the same clock as `Frame.time`.
    """

    def __init__(
        self,
        enhance: LiveEnhancer,
        load: Callable[[], PersonRecogniser | None],
        controls: LiveControls,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enhance, self._load, self._controls, self._clock = enhance, load, controls, clock
        self._opening = threading.Lock()
        self._labels: dict[str, str] = {}

    def recognise(self) -> None:
        """Recognises persons from now on.

        Raises:
            UsageError: a policy locks the option.
            MissingComponent: the network is not installed.
        """
        self._controls.check_lock("person")
        with self._opening:
            if self._enhance.persons is None:
                self._enhance.use_persons(self._load())

    def listed(self) -> list[dict[str, Any]] | None:
        """Returns the persons as `/status` lists them: first those seen in the last ten seconds, then others with a
        reduced strength. Returns None if recognition is off."""
        if (recogniser := self._enhance.persons) is None:
            return None
        strengths = dict(self._controls.persons)
        recent = recogniser.in_view(self._clock())
        self._labels |= {person.label.lower(): person.label for person in recent if person.label.lower() in strengths}
        in_view = [
            {
                "name": person.label,
                "in_view": person.seconds <= _IN_VIEW_S,
                "strength": strengths.pop(person.label.lower(), 1.0),
            }
            for person in recent
        ]
        return in_view + [
            {"name": self._labels.get(label, label), "in_view": False, "strength": strength}
            for label, strength in strengths.items()
            if strength < 1.0
        ]

    def face(self, name: str) -> bytes:
        """Returns a JPEG of a person's face, 128×128.

        Raises:
            InputMissing: the person was not seen in the last ten seconds.
        """
        recogniser = self._enhance.persons
        for person in recogniser.in_view(self._clock()) if recogniser else ():
            if person.label.lower() == name.lower() and person.face is not None:
                scaled = cv2.resize(person.face, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
                return cv2.imencode(".jpg", scaled[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        raise InputMissing("{name} was not seen in the last ten seconds", code="person_unseen", name=name[:40])
