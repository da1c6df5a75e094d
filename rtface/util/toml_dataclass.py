"""Converts TOML or JSON tables to dataclasses, strictly. Error messages contain the key."""

from __future__ import annotations

import json
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from rtface.errors import UsageError
from rtface.util.foreign import converted
from rtface.util.spelling import hint
from rtface.util.text import brief

T = TypeVar("T")
_type_hints = cache(get_type_hints)


def parse_json(text: str | bytes, kind: Any = Any) -> Any:
    """Parses JSON into a type. Raises ValueError for invalid JSON, a value of another type, or too deep nesting."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    converted(value, kind)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parses a TOML table. Raises ValueError like `parse_json`."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError("{where} must be a table, got {value}", code="toml_table", where=where, value=brief(value))
        return from_table(cast(type[Any], kind), cast(Mapping[str, object], value), f"{where}.")
    if origin is Literal:
        if value not in arguments:
            suggestion = hint(value, map(str, arguments)) if isinstance(value, str) else ""
            raise UsageError(
                "{where} must be {choices}, got {value}{hint}",
                code="toml_choice",
                where=where,
                choices=" or ".join(map(repr, arguments)),
                value=brief(value),
                hint=suggestion,
            )
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        items = cast(list[Any], value) if isinstance(value, list) else None
        if items is None or (arguments[-1] is not Ellipsis and len(items) != len(arguments)):
            raise UsageError(
                "{where} must be a list{length}, got {value}",
                code="toml_list",
                where=where,
                length="" if arguments[-1] is Ellipsis else f" of {len(arguments)}",
                value=brief(value),
            )
        return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        kind = dict
    large = isinstance(value, int) and abs(value) >= 1 << 63
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and not large:
        return float(value)
    if large or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(
            "{where} must be {kind}, got {value}",
            code="toml_kind",
            where=where,
            kind=_NAMES.get(kind, kind.__name__),
            value=brief(value),
        )
    return value


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
