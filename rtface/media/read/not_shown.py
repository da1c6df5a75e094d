"""What FFmpeg's decoder does not give of a film's frames."""

from __future__ import annotations

from collections.abc import Mapping

from rtface.media.formats.color import UNSPECIFIED, ColorTags, HdrMetadata

_HIDDEN = {
    "MVC": "a second view (MVC)",
    "SVC": "a finer layer (SVC)",
    "layer": "a second view, a finer layer or transparency (MV-HEVC, SHVC)",
}


def not_shown(
    metadata: Mapping[str, str], hidden: Mapping[str, int], tags: ColorTags, hdr: HdrMetadata | None, *, alpha: bool
) -> list[str]:
    """Names transparency, further views and layers, and colours that no other program reads, one line each.

    Args:
        metadata: tags of the stream.
        hidden: units of views and layers, by kind.
        tags, hdr: of the first frame.
        alpha: whether transparency is decoded.
    """
    lines = [
        f"its first packets hold {_HIDDEN[kind]}, which is not decoded here (NAL units: {count}): it is left out"
        for kind, count in hidden.items()
        if not alpha
    ]
    if {key.lower(): text for key, text in metadata.items()}.get("alpha_mode") == "1" and not alpha:
        lines.append("its transparency is a second stream that cannot be decoded here: it is left out")
    if hdr and "Dolby Vision" in hdr.dynamic and tags.transfer == UNSPECIFIED:  # profile 5
        lines.append(
            "it is Dolby Vision without a layer of colours that others read (profile 5): players will show the output "
            "green and purple; convert it to HDR10 first"
        )
    return lines
