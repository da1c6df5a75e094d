"""Starts a live run in another process, and controls it by HTTP."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeGuard
from urllib.parse import urlencode, urlsplit

from rtface.concurrency.threads import start_thread
from rtface.config.addresses import LIVE_SCHEMES, LiveAddress, check_addresses, is_live, parse_address
from rtface.config.options import OPTIONS, Options, Trait, having, person_photos
from rtface.errors import InputMissing, Message, RestartNeeded, UsageError
from rtface.stages.options import Spec, check_needed, file_options
from rtface.util.events import TO_STDERR, Event, read_events
from rtface.web.http import JsonObject, refused
from rtface_studio.folders import AllowedFolders, check_no_playlist

SETTINGS = having(Trait.LIVE_PAGE)
"""Options of a live run that the page sets."""
_RESPONSE_S, _QUIT_S = 2.0, 10.0
TERMINATE_S = 20.0  # long, because a busy machine needs time to finish a recording


@dataclass(frozen=True, slots=True)
class LivePlan:
    """Valid arguments of a live run.

    Attributes:
        source, output: addresses, including secrets. `str()` removes the secrets.
        options: options set by the page, by name.
        words: additional command-line arguments.
    """

    source: LiveAddress
    output: LiveAddress
    options: dict[str, Any]
    words: tuple[str, ...] = ()

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Returns the command line, and environment variables with the addresses of streams."""
        flags, variables = list(self.words), dict[str, str]()
        for name, value in self.options.items():
            flag = OPTIONS[name].flag
            if isinstance(value, bool):
                flags.append(flag if value else f"--no-{flag.removeprefix('--')}")
                continue
            flags += [f"{flag}={item}" for item in (value if isinstance(value, list) else [value])]
        ends = list[str]()
        for variable, end in (("RTFACE_STUDIO_SOURCE", self.source), ("RTFACE_STUDIO_OUTPUT", self.output)):
            ends.append(
                f"env:{variable}"
                if end.kind == "stream"
                else end.name
                if end.kind == "file"
                else f"{end.kind}:{end.name}"
            )  # str() would omit the kind
            if end.kind == "stream":
                variables[variable] = end.name
        return [sys.executable, "-P", "-m", "rtface", "run", TO_STDERR, *flags, "--control=0", "--", *ends], variables


def plan_live_run(folders: AllowedFolders, source: object, output: object, settings: object) -> LivePlan:
    """Checks the page's request.

    Args:
        folders: allowed folders for films and recordings.
        source, output: addresses as on the command line, except ``env:NAME`` and ``@FILE``.
        settings: values of `SETTINGS`.

    Raises:
        UsageError: an address, a path or a setting cannot be used.
    """
    plan = LivePlan(
        _address(folders, source, "source"), _address(folders, output, "output"), live_options(folders, settings)
    )
    check_addresses(plan.source, plan.output)
    if not is_live(plan.source, plan.output):
        raise UsageError(
            "source or output must be live: a camera, a stream or a virtual camera; open films under Films",
            code="not_live",
        )
    return plan


def live_options(folders: AllowedFolders, settings: object) -> JsonObject:
    """Converts the page's settings to options. Raises the same errors as `plan_live_run`."""
    if not isinstance(settings, dict):
        raise UsageError("{what} must be a JSON object", code="no_object", what="settings")
    options: dict[str, Any] = {str(key): value for key, value in settings.items() if value not in (None, "", [])}
    if unknown := set(options) - set(SETTINGS):
        raise UsageError(
            "{name} is not a setting of a live run; the settings are {names}",
            code="live_setting",
            name=sorted(unknown)[0][:40],
            names=", ".join(SETTINGS),
        )
    if "also" in options:
        options["also"] = str(folders.path(options["also"]))
    if "person" in options:
        if not isinstance(options["person"], list):
            raise UsageError("person must be a list of texts such as NAME=PHOTO", code="person_list")
        # The run reads the photos, so they must be in the allowed folders.
        values = Options.of({"person": options["person"]}).person
        options["person"] = [
            f"{arg.partition('=')[0]}={','.join(str(folders.path(str(photo))) for photo in photos)}" if photos else arg
            for arg, photos in zip(values, person_photos(values).values(), strict=True)
        ]
    checked = Options.of(options)
    if "stages" in options:
        options["stages"] = list(checked.stages)
        for stage in checked.stages:  # rejects stages that are not installed, lack a component or read other files
            for path in file_options(stage).values():
                folders.path(path)
            check_needed(Spec.parse(stage))
    return options


def _address(folders: AllowedFolders, name: object, what: str) -> LiveAddress:
    if not isinstance(name, str) or not name.strip():
        raise UsageError("choose a {what} for the live run", code="choose_end", what=what)
    address = parse_address(name.strip())
    if address.kind == "file":
        path = folders.path(address.name)
        check_no_playlist(path)
        return LiveAddress("file", str(path))
    if address.kind == "stream" and address.scheme not in (*LIVE_SCHEMES, "http", "https"):
        raise UsageError(
            "{address}: a live run supports {schemes}, http and https",
            code="live_scheme",
            address=address,
            schemes=", ".join(LIVE_SCHEMES),
        )
    if address.kind in ("camera", "vcam") and address.name.startswith("-"):
        raise UsageError("{address}: there is no such device", code="no_device", address=address)
    return address


class LiveRun:
    """Controls one live run. Its process ends when `stop` is called or the studio ends.

    Attributes:
        plan: arguments of the run, with the current overlays.
    """

    def __init__(self, plan: LivePlan) -> None:
        self.plan = plan
        self._error = Message()  # the last error
        self._port: int | None = None
        self._stopped = self._killed = False
        self._status: JsonObject | None = None  # the last status
        self._key = secrets.token_urlsafe(32)  # key that every client of the control server must send
        command, variables = plan.command()
        # The run ends when the pipe to its stdin closes. This happens whenever the studio's process ends.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables, "RTFACE_STUDIO_PARENT": "stdin", "RTFACE_CONTROL_KEY": self._key},
            start_new_session=True,  # so that Ctrl-C in the studio's terminal does not reach the run
        )
        self._reader = start_thread("live run", self._read)

    @property
    def alive(self) -> bool:
        """True while the run's process is alive."""
        return self._process.poll() is None

    def ends(self, seconds: float) -> bool:
        """Waits at most `seconds` for the process to end. Returns whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def authorization(self) -> str:
        """Authorization header for the run's control server."""
        return f"Bearer {self._key}"

    @property
    def port(self) -> int | None:
        """Port of the run's control server; None while there is none."""
        return self._port if self.alive else None

    def state(self) -> JsonObject:
        """Returns the run for the page. "state" is starting, running, ended or failed; "status" is as in `/status`."""
        code = self._process.poll()
        state = {
            "source": str(self.plan.source),
            "output": str(self.plan.output),
            "settings": self.plan.options,
            "status": None,
            "error": None,
        }
        if code is None:
            self._status = self._try_request("GET", "/status") or self._status  # the run may be busy or ending
            return state | {"state": "running" if self._status else "starting", "status": self._status}
        self._reader.join(1.0)
        if self._killed:
            killed = Message(
                "the run did not end in time and was killed; its recording is in a hidden file next to the output, "
                "until the next run to this output",
                code="run_killed",
            )
            return state | {"state": "failed", "error": killed.to_dict()}
        if code == 0 or self._stopped:
            return state | {"state": "ended"}
        died = Message("the run ended by itself (code {exit}); start it again", code="run_died", exit=code)
        error = (code > 0 and self._error) or died  # a negative code means that a signal ended the run
        return state | {"state": "failed", "error": error.to_dict()}

    def set(self, name: object, value: object) -> JsonObject:
        """Changes "enabled", "always" or a control. Returns the values of all of them.

        Raises:
            UsageError: the run refuses the change, or there is no run. RestartNeeded if it must be restarted.
        """
        return self._request("/set", {str(name): value})

    def set_overlays(self, folders: AllowedFolders, stages: object) -> list[str]:
        """Replaces the overlays, and returns the new ones. Raises UsageError if they cannot be used, and RestartNeeded
        if the run must be restarted for them."""
        options = live_options(folders, {"stages": stages})
        applied = self._request("/stages", {"stages": options.get("stages", [])})["stages"]
        self.plan = replace(self.plan, options={**self.plan.options, "stages": applied})
        return applied

    def recognise(self) -> list[JsonObject]:
        """Turns on recognition, and returns the persons in view. Their format is that of `/status`. Raises UsageError
        if the run rejects the request."""
        return self._persons("/persons")

    def set_person(self, name: object, strength: object) -> list[JsonObject]:
        """Changes a person's strength factor, and returns the persons in view. Raises UsageError like `set`."""
        if not isinstance(name, str) or not _is_share(strength):
            raise UsageError("a person has a name and a strength from 0 to 1", code="person_strength")
        return self._persons("/persons?" + urlencode({"name": name, "strength": float(strength)}))

    def face(self, name: str) -> bytes:
        """Returns a JPEG of a person. Raises InputMissing if the person is not in view."""
        response = self._fetch("GET", "/person.jpeg?" + urlencode({"name": name}))
        if response is None or response[0] != HTTPStatus.OK:
            raise InputMissing("{name} is not in view", code="not_in_view", name=name[:40])
        return response[1]

    def _persons(self, path: str) -> list[JsonObject]:
        return self._request(path)["persons"] or []

    def stop(self) -> None:
        """Ends the run as the key `q` does. Kills the process if it does not end in time."""
        self._stopped = True
        self._try_request("POST", "/quit")
        for action, seconds in (
            (lambda: None, _QUIT_S if self._port else 0.0),
            (self._process.terminate, TERMINATE_S),
            (self._process.kill, TERMINATE_S),
        ):
            self._killed = action == self._process.kill
            action()
            if self.ends(seconds):
                return

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._error = read_events(self._process.stderr, self._receive)

    def _receive(self, event: Event) -> None:
        if event.get("code") == "control":
            self._port = urlsplit(event["values"]["address"]).port

    def _request(self, path: str, body: JsonObject | None = None) -> JsonObject:
        """Sends a command to the control server. Raises UsageError on failure."""
        if (response := self._try_request("POST", path, body)) is None:
            if self.alive and self._port is None:
                raise UsageError(
                    "the live run is still starting; change it when its picture appears", code="run_starting"
                )
            raise UsageError("the live run does not respond; stop it and start it again", code="run_silent")
        if "error" in response:
            error_type = RestartNeeded if response.get("kind") == RestartNeeded.__name__ else UsageError
            raise error_type(refused(response))
        return response

    def _try_request(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject | None:
        """Returns the control server's JSON response; None if there is none."""
        try:
            return json.loads(response[1]) if (response := self._fetch(method, path, body)) else None
        except ValueError:
            return None

    def _fetch(self, method: str, path: str, body: JsonObject | None = None) -> tuple[int, bytes] | None:
        """Returns status and body of the control server's response, or None."""
        if (port := self.port) is None:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_RESPONSE_S)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body).encode(),
                {"Authorization": self.authorization, "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def _is_share(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
