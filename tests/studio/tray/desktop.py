"""A desktop with a tray: its own bus, the watcher that icons register with, and what a user does with an icon."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import Any

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusStr
from dbus_fast.service import ServiceInterface, dbus_method

WATCHER = "org.kde.StatusNotifierWatcher"
DBUS = os.environ.get("RTFACE_TEST_DBUS", "")
ANSWER_S = 20.0


class Watcher(ServiceInterface):
    def __init__(self, icons):
        super().__init__(WATCHER)
        self.icons = icons

    @dbus_method(name="RegisterStatusNotifierItem")
    def register(self, name: DBusStr):
        self.icons.append(name)


class Desktop:
    """One session's bus; `start_tray` begins a desktop's tray on it.

    Attributes:
        address: of the bus.
        icons: bus names of the icons that registered.
        signals: members of the signals that icons sent.
    """

    def __init__(self, address):
        self.address, self.icons, self.signals = address, [], []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._bus = self._run(self._connect())

    async def _connect(self):
        bus = await MessageBus(bus_address=self.address).connect()
        await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                signature="s",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                body=["type='signal'"],
            )
        )
        bus.add_message_handler(
            lambda message: self.signals.append(message.member) if message.message_type is MessageType.SIGNAL else None
        )
        return bus

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_S)

    def start_tray(self):
        self._bus.export("/StatusNotifierWatcher", Watcher(self.icons))
        self._run(self._bus.request_name(WATCHER))

    def ask(self, path, interface, member, signature="", *body) -> Any:
        """The answer of the icon to one call; fails with its error."""
        reply = self._run(
            self._bus.call(
                Message(
                    destination=self.icons[-1],
                    path=path,
                    interface=interface,
                    member=member,
                    signature=signature,
                    body=list(body),
                )
            )
        )
        assert reply.message_type is MessageType.METHOD_RETURN, reply.body
        return reply.body

    def property(self, name):
        return self.ask(
            "/StatusNotifierItem", "org.freedesktop.DBus.Properties", "Get", "ss", "org.kde.StatusNotifierItem", name
        )[0].value

    def menu(self):
        """Label of each entry, with whether it has a tick (None: it cannot have one), by its number."""
        _, (_, _, children) = self.ask("/MenuBar", "com.canonical.dbusmenu", "GetLayout", "iias", 0, -1, [])
        found = {}
        for number, properties, _ in (child.value for child in children):
            ticked = properties["toggle-state"].value == 1 if "toggle-state" in properties else None
            found[number] = (properties["label"].value if "label" in properties else "", ticked)
        return found

    def choose(self, label):
        number = next(number for number, (text, _) in self.menu().items() if text == label)
        self.ask("/MenuBar", "com.canonical.dbusmenu", "Event", "isvu", number, "clicked", Variant("i", 0), 0)

    def until(self, condition):
        end = time.monotonic() + ANSWER_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)

    def close(self):
        self._loop.call_soon_threadsafe(self._bus.disconnect)
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def desktop():
    with subprocess.Popen(
        [DBUS, "--session", "--nofork", "--nopidfile", "--print-address=1"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as daemon:
        try:
            made = Desktop(daemon.stdout.readline().strip())
            yield made
            made.close()
        finally:
            daemon.terminate()
