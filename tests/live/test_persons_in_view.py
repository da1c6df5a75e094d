"""The persons whom a live run sees, through its control server: asked for, listed, with a picture and a strength."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from rtface.errors import UsageError
from rtface.live.control.control_routes import control_routes
from rtface.live.control.http_server import LocalHttpServer
from rtface.live.controls import LiveControls
from rtface.live.persons_in_view import PersonsInView
from rtface.persons.gallery import Gallery
from rtface.persons.recogniser import PersonRecogniser
from rtface.stats import Stats
from tests.live.live_fakes import ask
from tests.persons.made import ANNA, NumberedView, at, face, frame


class Scene:
    """A run of ten frames a second that shows one face, which is Anna's."""

    def __init__(self, photos: dict[str, list[np.ndarray]]) -> None:
        self.controls = LiveControls(locked={})
        self.opened = 0
        self.photos = photos
        self.now = 100.0
        self.enhance = SimpleNamespace(persons=None, use_persons=self.use)
        self.persons = PersonsInView(self.enhance, self.open, self.controls, clock=lambda: self.now)

    def open(self) -> PersonRecogniser:
        self.opened += 1
        return PersonRecogniser(lambda chip: at(ANNA, 0.1), Gallery(self.photos), Stats(), keep_faces=0)

    def use(self, recogniser: PersonRecogniser) -> None:
        self.enhance.persons = recogniser

    def show(self, seconds: float, *tracks: int) -> None:
        for _ in range(round(10 * seconds)):
            if self.enhance.persons is not None and tracks:
                self.enhance.persons(frame(self.now, *map(face, tracks)), lambda shown: NumberedView())
            self.now += 0.1


@pytest.fixture
def serve() -> Iterator[Callable[[Scene], int]]:
    servers: list[LocalHttpServer] = []

    def start(scene: Scene) -> int:
        routes = control_routes(scene, scene.persons, None)
        servers.append(LocalHttpServer(routes, port=0))
        return servers[-1].server_port

    yield start
    for server in servers:
        server.close()


def test_persons_are_recognised_once_asked_for(serve: Callable[[Scene], int]) -> None:
    scene = Scene({})
    port = serve(scene)
    scene.show(2, 1)
    assert scene.persons.listed() is None and not scene.opened
    assert ask(port, "POST", "/persons")[:2] == (200, {"persons": []})
    assert ask(port, "POST", "/persons")[0] == 200
    assert scene.opened == 1
    scene.show(2, 1)
    assert scene.persons.listed() == [{"name": "P1", "in_view": True, "strength": 1.0}]
    status, image, _ = ask(port, "GET", "/person.jpeg?name=P1")
    assert status == 200 and len(image) < 20_000
    assert cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR).shape == (128, 128, 3)


def test_a_strength_outlasts_its_person(serve: Callable[[Scene], int]) -> None:
    scene = Scene({"Anna": [ANNA]})
    port = serve(scene)
    scene.persons.recognise()
    scene.show(1, 1)
    given = ask(port, "POST", "/persons?name=anna&strength=0.25")
    assert given[:2] == (200, {"persons": [{"name": "Anna", "in_view": True, "strength": 0.25}]})
    scene.show(5)
    assert scene.persons.listed() == [{"name": "Anna", "in_view": False, "strength": 0.25}]
    scene.show(10)
    assert scene.persons.listed() == [{"name": "Anna", "in_view": False, "strength": 0.25}]
    assert ask(port, "GET", "/person.jpeg?name=Anna")[0] == 404
    assert ask(port, "POST", "/persons?name=Anna&strength=+1")[0] == 200
    assert scene.persons.listed() == []


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/persons?strength=1", 400, "name of a person is missing"),
        ("POST", "/persons?name=all&strength=1", 400, "not a person's name"),
        ("POST", f"/persons?name={quote('../x' * 50)}&strength=1", 400, "not a person's name"),
        ("POST", "/persons?name=P1&strength=1.5", 400, "between 0 and 1"),
        ("POST", "/persons?name=P1&strength=nan", 400, "number"),
        ("POST", "/persons?name=P1", 400, "number"),
        ("GET", "/person.jpeg?name=P1", 404, "not seen"),
        ("GET", "/person.jpeg", 400, "name of a person is missing"),
    ],
)
def test_what_cannot_be_is_refused(
    serve: Callable[[Scene], int], method: str, path: str, status: int, said: str
) -> None:
    scene = Scene({})
    found, answer, _ = ask(serve(scene), method, path)
    assert found == status and said in answer["error"]
    assert not scene.controls.persons


def test_a_policy_locks_persons(serve: Callable[[Scene], int]) -> None:
    scene = Scene({})
    scene.controls = LiveControls(
        locked={name: UsageError(f"the policy forbids {name}") for name in ("person", "strength")}
    )
    scene.persons = PersonsInView(scene.enhance, scene.open, scene.controls, clock=lambda: scene.now)
    port = serve(scene)
    for path, said in (("", "the policy forbids person"), ("?name=P1&strength=0.5", "the policy forbids strength")):
        status, answer, _ = ask(port, "POST", f"/persons{path}")
        assert (status, answer["error"]) == (400, said)
    assert not scene.opened
