"""Converts TOML or JSON tables to dataclasses, strictly. Error messages contain the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from rtface.errors import UsageError
from rtface.util.foreign import converted
from rtface.util.spelling import hint

T = TypeVar("T")
_type_hints = cache(get_type_hints)


def parse_json(text: str | bytes, kind: Any = Any) -> Any:
    """Parses JSON. Raises ValueError for invalid JSON, or a value that does not fit `kind`."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    converted(value, kind)
    return value


def from_table(cls: type[T], table: Mapping[str, object], where: str) -> T:
    """Builds a dataclass from a TOML or JSON table, strictly. Nested dataclasses are nested tables.

    Raises UsageError for a key that is unknown, missing or of the wrong type. The message contains the key, prefixed by
    `where`.
    """
    hints = _type_hints(cls)
    names = [f.name for f in fields(cast(Any, cls))]
    for key in table:
        if key not in names:
            raise UsageError(
                "unknown key {where}{key}{hint}; valid: {keys}",
                code="toml_key",
                where=where,
                key=key[:80],
                hint=hint(key, names),
                keys=", ".join(names),
            )
    values: dict[str, Any] = {}
    for f in fields(cast(Any, cls)):
        if f.name in table:
            values[f.name] = _value(hints[f.name], table[f.name], f"{where}{f.name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise UsageError("key {where}{key} is missing", code="toml_missing", where=where, key=f.name)
    return cls(**values)


def _value(kind: Any, value: Any, where: str) -> Any:
    inner = next((one for one in (kind, *get_args(kind)) if is_dataclass(one)), None)
    if inner and isinstance(value, dict):
        return from_table(cast(type[Any], inner), cast(Mapping[str, object], value), f"{where}.")
    if inner and isinstance(value, list):
        return tuple(_value(inner, item, f"{where}[{i}]") for i, item in enumerate(cast(list[Any], value)))
    try:
        return converted(value, kind)
    except ValueError as error:
        raise UsageError("{where}: {why}", code="toml_value", where=where, why=error) from None
