"""Shows the icon on Linux over D-Bus, with StatusNotifierItem and com.canonical.dbusmenu.

KDE, Xfce, Cinnamon, MATE, LXQt and panels of Wayland compositors show these icons. GNOME needs its extension
AppIndicator. Specifications: freedesktop.org's StatusNotifierItem, and libdbusmenu's dbus-menu.xml.
"""

# Annotations are not postponed, because dbus_fast reads signatures from them, and would not recognise a postponed None.
import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from dbus_fast import BusType, Message, MessageType, NameFlag, PropertyAccess, RequestNameReply, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusBool, DBusInt32, DBusObjectPath, DBusSignature, DBusStr, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property, dbus_signal

from rtface.concurrency.threads import start_thread
from rtface.errors import MissingComponent, UsageError
from rtface_studio.tray.view import IconState, MenuItem, TrayView, draw_icon

NAME = "org.rtface.Tray"
"""Name on the session's bus. Owning this name ensures that a session has only one icon."""
WATCHER, WATCHER_PATH = "org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"
ITEM_PATH, MENU_PATH = "/StatusNotifierItem", "/MenuBar"
_SIZES = (22, 48)
_TITLE = 1
"""D-Bus number of the menu's title. A separator has the next number."""
_FIRST = 3  # number of the first entry
_ROOT = {"children-display": Variant("s", "submenu")}

Pixmaps = Annotated[list[list[Any]], DBusSignature("a(iiay)")]
ToolTip = Annotated[list[Any], DBusSignature("(sa(iiay)ss)")]
Layout = Annotated[list[Any], DBusSignature("u(ia{sv}av)")]
Numbers = Annotated[list[int], DBusSignature("ai")]
Names = Annotated[list[str], DBusSignature("as")]
Entries = Annotated[list[list[Any]], DBusSignature("a(ia{sv})")]
Events = Annotated[list[list[Any]], DBusSignature("a(isvu)")]
TwoNumbers = Annotated[tuple[list[int], list[int]], DBusSignature("aiai")]
AnyValue = Annotated[Variant, DBusSignature("v")]
Revision = Annotated[list[int], DBusSignature("ui")]


def pixmaps(state: IconState) -> list[list[Any]]:
    """Returns the icon in all sizes for D-Bus: width, height, and ARGB in network byte order."""
    images = [draw_icon(state, size) for size in _SIZES]
    return [[image.shape[1], image.shape[0], np.roll(image, 1, axis=2).tobytes()] for image in images]


class StatusNotifier:
    """A `TrayIcon` on the session's bus.

    Args:
        view: initial view.
        show: called with a line for the user if the desktop shows no tray icons.
    """

    def __init__(self, view: TrayView, show: Callable[[str], None]) -> None:
        self._view, self._show = view, show
        self._loop: asyncio.AbstractEventLoop | None = None
        self._item, self._menu = _Item(view), _Menu(view)

    def run(self, stop: threading.Event) -> None:
        """Shows the icon until `stop` is set.

        Raises:
            MissingComponent: there is no session bus.
            UsageError: this session already has the icon.
        """
        asyncio.run(self._serve(stop))

    def show(self, view: TrayView) -> None:
        """Shows another view. May be called from any thread, even before `run`."""
        self._view = view
        if (loop := self._loop) is not None:
            loop.call_soon_threadsafe(self._update)

    def _update(self) -> None:
        if self._view != self._item.view:
            self._item.show(self._view)
            self._menu.show(self._view)

    async def _serve(self, stop: threading.Event) -> None:
        try:
            bus = await MessageBus(bus_type=BusType.SESSION).connect()
        except (OSError, EOFError, ValueError) as error:
            raise MissingComponent(
                "there is no desktop session for the icon (D-Bus cannot be reached: {why}); start rtface tray in a "
                "desktop session",
                code="tray_no_session",
                why=error,
            ) from None
        try:
            if await bus.request_name(NAME, NameFlag.DO_NOT_QUEUE) != RequestNameReply.PRIMARY_OWNER:
                raise UsageError("rtface tray is already running in this session; see its icon", code="tray_runs")
            bus.export(ITEM_PATH, self._item)
            bus.export(MENU_PATH, self._menu)
            await self._register(bus)
            loop = self._loop = asyncio.get_running_loop()
            self._update()
            stopped = asyncio.Event()
            start_thread("stop", lambda: (stop.wait(), loop.call_soon_threadsafe(stopped.set)))
            tasks = {asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(bus.wait_for_disconnect())}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # the bus disconnects when the session ends
            for task in tasks:
                task.cancel()
        finally:
            self._loop = None
            bus.disconnect()

    async def _register(self, bus: MessageBus) -> None:
        """Registers the icon now, and again whenever the desktop's tray restarts."""
        tasks = set[asyncio.Task[bool]]()

        def owner_changed(message: Message) -> None:
            if (
                message.message_type is MessageType.SIGNAL
                and message.member == "NameOwnerChanged"
                and (message.sender == "org.freedesktop.DBus" and message.body[0] == WATCHER and message.body[2])
            ):
                tasks.add(task := asyncio.ensure_future(self._announce(bus)))
                task.add_done_callback(tasks.discard)

        bus.add_message_handler(owner_changed)
        await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{WATCHER}'"],
            )
        )
        if not await self._announce(bus):
            self._show(
                "this desktop shows no tray icons (GNOME needs the extension AppIndicator); the icon will "
                "appear when the desktop supports it"
            )

    async def _announce(self, bus: MessageBus) -> bool:
        reply = await bus.call(
            Message(
                destination=WATCHER,
                path=WATCHER_PATH,
                interface=WATCHER,
                member="RegisterStatusNotifierItem",
                signature="s",
                body=[NAME],
            )
        )
        return reply.message_type is MessageType.METHOD_RETURN


class _Item(ServiceInterface):
    """The icon itself."""

    def __init__(self, view: TrayView) -> None:
        super().__init__("org.kde.StatusNotifierItem")
        self.view = view

    def show(self, view: TrayView) -> None:
        previous, self.view = self.view, view
        if previous.state != view.state:
            self.new_icon()
        if previous.title != view.title:
            self.new_tooltip()

    @dbus_property(PropertyAccess.READ, name="Category")
    def category(self) -> DBusStr:
        return "ApplicationStatus"

    @dbus_property(PropertyAccess.READ, name="Id")
    def id(self) -> DBusStr:
        return "rtface"

    @dbus_property(PropertyAccess.READ, name="Title")
    def title(self) -> DBusStr:
        return "rtface"

    @dbus_property(PropertyAccess.READ, name="Status")
    def status(self) -> DBusStr:
        return "Active"

    @dbus_property(PropertyAccess.READ, name="IconPixmap")
    def icon_pixmap(self) -> Pixmaps:
        return pixmaps(self.view.state)

    @dbus_property(PropertyAccess.READ, name="ToolTip")
    def tooltip(self) -> ToolTip:
        return ["", [], "rtface", self.view.title]

    @dbus_property(PropertyAccess.READ, name="ItemIsMenu")
    def item_is_menu(self) -> DBusBool:
        return False

    @dbus_property(PropertyAccess.READ, name="Menu")
    def menu(self) -> DBusObjectPath:
        return MENU_PATH

    @dbus_method(name="Activate")
    def activate(self, x: DBusInt32, y: DBusInt32) -> None:
        _choose(self.view.items[0])

    @dbus_method(name="ContextMenu")
    def context_menu(self, x: DBusInt32, y: DBusInt32) -> None:
        pass  # the desktop shows the menu itself

    @dbus_signal(name="NewIcon")
    def new_icon(self) -> None:
        pass

    @dbus_signal(name="NewToolTip")
    def new_tooltip(self) -> None:
        pass


class _Menu(ServiceInterface):
    """The menu: its title, a separator and the view's entries."""

    def __init__(self, view: TrayView) -> None:
        super().__init__("com.canonical.dbusmenu")
        self._view, self._revision = view, 1

    def show(self, view: TrayView) -> None:
        self._view = view
        self._revision += 1
        self.layout_updated()

    def _entries(self) -> dict[int, dict[str, Variant]]:
        entries = {_TITLE: _properties(MenuItem(self._view.title)), _TITLE + 1: {"type": Variant("s", "separator")}}
        return entries | {_FIRST + n: _properties(item) for n, item in enumerate(self._view.items)}

    @dbus_property(PropertyAccess.READ, name="Version")
    def version(self) -> DBusUInt32:
        return 3

    @dbus_property(PropertyAccess.READ, name="Status")
    def status(self) -> DBusStr:
        return "normal"

    @dbus_method(name="GetLayout")
    def get_layout(self, parent: DBusInt32, depth: DBusInt32, names: Names) -> Layout:
        entries = self._entries()
        if parent:
            return [self._revision, [parent, entries.get(parent, {}), []]]
        children = (
            []
            if depth == 0
            else [Variant("(ia{sv}av)", [number, properties, []]) for number, properties in entries.items()]
        )
        return [self._revision, [0, _ROOT, children]]

    @dbus_method(name="GetGroupProperties")
    def get_group_properties(self, numbers: Numbers, names: Names) -> Entries:
        return [
            [number, properties]
            for number, properties in ({0: _ROOT} | self._entries()).items()
            if not numbers or number in numbers
        ]

    @dbus_method(name="GetProperty")
    def get_property(self, number: DBusInt32, name: DBusStr) -> AnyValue:
        return self._entries().get(number, {}).get(name, Variant("s", ""))

    @dbus_method(name="Event")
    def event(self, number: DBusInt32, kind: DBusStr, data: AnyValue, time: DBusUInt32) -> None:
        self._choose(number, kind)

    def _choose(self, number: int, kind: str) -> None:
        if kind == "clicked" and 0 <= number - _FIRST < len(self._view.items):
            _choose(self._view.items[number - _FIRST])

    @dbus_method(name="EventGroup")
    def event_group(self, events: Events) -> Numbers:
        for number, kind, _data, _time in events:
            self._choose(number, kind)
        return []

    @dbus_method(name="AboutToShow")
    def about_to_show(self, number: DBusInt32) -> DBusBool:
        return False

    @dbus_method(name="AboutToShowGroup")
    def about_to_show_group(self, numbers: Numbers) -> TwoNumbers:
        return [], []

    @dbus_signal(name="LayoutUpdated")
    def layout_updated(self) -> Revision:
        return [self._revision, 0]


def _properties(item: MenuItem) -> dict[str, Variant]:
    properties = {
        "label": Variant("s", item.label.replace("_", "__")),  # a single underscore would mark a mnemonic
        "enabled": Variant("b", item.action is not None),
        "visible": Variant("b", True),
    }
    if item.checked is not None:
        properties |= {"toggle-type": Variant("s", "checkmark"), "toggle-state": Variant("i", int(item.checked))}
    return properties


def _choose(item: MenuItem) -> None:
    if item.action is not None:
        start_thread("menu", item.action)  # on a thread, because the action may wait for the run, but the icon must not
