"""Maps descriptive tags of films and streams between containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from av.stream import Disposition

# Tags whose names contain one of these parts describe the file, not the film, or are written in other ways.
_TECHNICAL = (
    *("brand", "minor_version", "encoder", "encoding_tool", "duration", "bps", "number_of_", "_statistics"),
    *("source_id", "vendor_id", "handler_name", "alpha_mode", "stereo_mode", "timecode", "reel_name", "rotate"),
    *("package", "uid", "product_", "modification_date", "company_", "application_", "toolkit_", "operational_"),
    *("umid", "variant_", "id3v2", "service_", "location-", "software"),
)
_STREAM_TAGS = {
    "mp4": {"title", "language"},
    "mov": {"title", "language"},
    "mpegts": {"language"},
    "mxf": set[str](),
}
_FILM_TAGS = {"mpegts": set[str](), "mxf": set[str]()}  # keyed by container; other containers store all tags
_THREE_LETTERS = ("mp4", "mov", "mpegts")  # containers that store three-letter languages (ISO 639-2)
_CODES = (
    "aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul "
    "bi:bis bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym "
    "da:dan de:deu dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij "
    "fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat "
    "hu:hun hy:hye hz:her ia:ina id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav "
    "ka:kat kg:kon ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir "
    "la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon "
    "mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya "
    "oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus "
    "rw:kin sa:san sc:srd sd:snd se:sme sg:sag si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw "
    "st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso "
    "tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor "
    "za:zha zh:zho zu:zul"
)
_LANGUAGES = {pair[:2]: pair[3:] for pair in _CODES.split()}
"""ISO 639-2/T codes of languages, keyed by their ISO 639-1 codes, which HLS playlists use."""
_IMPAIRED = Disposition.hearing_impaired | Disposition.visual_impaired
_KINDS = _IMPAIRED | Disposition.dub | Disposition.comment | Disposition.forced
_FLAGS = {
    "matroska": _KINDS | Disposition.original | Disposition.descriptions | Disposition.default,
    "webm": Disposition.forced | Disposition.captions | Disposition.descriptions | Disposition.default,
    "mp4": _KINDS | Disposition.captions | Disposition.descriptions | Disposition.default,
    "mov": Disposition.default,
    "mpegts": _IMPAIRED | Disposition.clean_effects,
}
_DESCRIPTIVE = _FLAGS["matroska"] | _FLAGS["mp4"] | Disposition.clean_effects | Disposition.lyrics | Disposition.karaoke


def stream_tags(tags: Mapping[str, str], format: str) -> dict[str, str]:
    """Returns a stream's tags under the keys of FFmpeg's writers. A name becomes a title, and a
    language gets three letters.

    FFmpeg reads the name of an HLS rendition as a comment, so comments of HLS streams become titles.
    """
    names = ("comment",) if format == "hls" else ("name", "track_name")
    if "language" in tags:
        tags = {**tags, "language": _LANGUAGES.get(tags["language"].lower(), tags["language"])}
    return {"title" if key.lower() in names and "title" not in tags else key: text for key, text in tags.items()}


def film_tags(tags: Mapping[str, str], format: str) -> dict[str, str]:
    """Returns a film's tags under FFmpeg's writer keys; `format` names the container."""
    if format.startswith("matroska"):  # Matroska writers use upper-case keys
        return {key.lower().replace("iso6709", "ISO6709") if key.isupper() else key: text for key, text in tags.items()}
    if format == "mxf":
        return {key.removeprefix("comment_"): text for key, text in tags.items()}
    return dict(tags)


def unheld(
    format: str,
    film: Mapping[str, str],
    streams: Iterable[tuple[int, Mapping[str, str], Disposition]],
) -> list[str]:
    """Lists the tags and flags that a container cannot store.

    Args:
        format: FFmpeg's name for the container.
        film: tags of the film.
        streams: number, tags and flags of each written stream.
    """
    lost = [f"film: {key}" for key in _lost_keys(film, _FILM_TAGS.get(format))]
    for number, tags, flags in streams:
        flags_lost = flags & _DESCRIPTIVE & ~_FLAGS.get(format, Disposition(0))
        for flag, implied_by in (("captions", "hearing_impaired"), ("descriptions", "visual_impaired")):
            flags_lost &= ~Disposition[flag] if flags & Disposition[implied_by] else ~Disposition(0)
        lost += [f"{number}: {key}" for key in _lost_keys(tags, _STREAM_TAGS.get(format), film)]
        if format in _THREE_LETTERS and len(tags.get("language", "und")) != 3:
            lost.append(f"{number}: language {tags['language']}")
        lost += [f"{number}: flag {flag.name}" for flag in Disposition if flags_lost & flag]
    return lost


def _lost_keys(tags: Mapping[str, str], stored: set[str] | None, film: Mapping[str, str] | None = None) -> list[str]:
    """Lists the keys that a container cannot store. `stored`: keys that it can store; None if it can store all.

    No container stores creation times of streams. These are listed only if the day differs from the film's.
    """
    return [
        name
        for key, text in tags.items()
        if text not in ("", "und")
        and not any(part in (name := key.lower()) for part in _TECHNICAL)
        and (
            text.partition("T")[0] != film.get(name, "").partition("T")[0]
            if name == "creation_time" and film is not None
            else stored is not None and name not in stored
        )
    ]
