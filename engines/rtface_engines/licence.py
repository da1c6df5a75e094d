"""Shows the licence that a user must accept, and records the acceptance."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rtface._version import __version__
from rtface.engine.recipe_tables import Licence

RECORD = "accepted.json"


def format_lines(name: str, licence: Licence) -> list[str]:
    """Formats a licence as lines for the user: licences, commercial use, training data, terms."""
    lines = [
        f"{name}: code under {licence.code}, weights under {licence.weights}",
        f"commercial use: {'allowed' if licence.commercial_use else 'forbidden'}",
        f"trained on: {licence.data}",
    ]
    return lines + [line.strip() for line in licence.terms.strip().splitlines() if line.strip()]


def record(folder: Path, name: str, licence: Licence, how: str) -> None:
    """Records an acceptance next to the recipe: licence, time (UTC), and `how` ("on a terminal" or a flag)."""
    accepted = {
        "engine": name,
        "licence": asdict(licence),
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
        "how": how,
        "rtface": __version__,
    }
    (folder / RECORD).write_text(json.dumps(accepted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
