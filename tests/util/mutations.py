"""JSON and other files as somebody else may have written them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

_WEIRD = [None, "", -1, 10**20, float("nan"), True, [], {"a": 1}, "\0", "../../x", "\ud800", "1e999999999", 2**63]


def mutated(value: Any, count: int, seed: int = 1) -> Iterator[bytes]:
    """Files with one or more places of a value changed, left out or doubled, and some that are no JSON."""
    chance = random.Random(seed)
    for _ in range(count):
        made = copy.deepcopy(value)
        for _ in range(chance.choice((1, 1, 2, 4))):
            made = _changed(made, chance)
        data = json.dumps(made).encode()
        if chance.random() < 0.2:
            place = chance.randrange(len(data))
            data = chance.choice((data[:place], b"[" * 5000, data[:place] + b"\xff" + data[place + 1 :]))
        yield data


def _changed(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        return copy.deepcopy(chance.choice(_WEIRD))
    key = chance.choice(list(value) if isinstance(value, dict) else range(min(len(value), 6)))
    if chance.random() < 0.1:
        del value[key]
    elif isinstance(value, list) and chance.random() < 0.1:
        value.append(value[key])
    else:
        value[key] = _changed(value[key], chance)
    return value


def spoilt(whole: bytes, count: int, seed: int = 1) -> Iterator[bytes]:
    """So many files, each with one to eight changes: bytes that are others, are gone, come again, or do not belong."""
    draw = random.Random(seed)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 2, 8))):
            place = draw.randrange(len(data))
            how = draw.randrange(4)
            if how == 0:
                data[place] = draw.randrange(256)
            elif how == 1:
                del data[place : place + draw.randrange(1, 20)]
            elif how == 2:
                data[place:place] = data[place : place + 30] * draw.choice((1, 50))
            else:
                data[place:place] = draw.choice((b"9" * 5000, b"\0", b"-1", b"nan", b"1/0", b"[" * 3000, b"\xff\xfe"))
            if not data:
                break
        yield bytes(data)
