r"""The parts of files that say nothing beyond what is compared elsewhere, by name, as rtface's outputs hold them, and
copies of those by FFmpeg, mkvmerge and GStreamer.

A line for each part, below the one that it lies in: a name (``*``: may come more than once in its place; ``|``: or;
``~``: a space), and a form that its content has to have, or what stands in it in front of its parts. Matroska's
have names and ids. Those below ``anywhere`` may lie in every part, and ``?`` is one of any name. ``rest`` is what is no
part, behind the others.
"""

from __future__ import annotations

import re

_UPRIGHT = r"\0\x01\0{14}\0\x01\0{14}@\0{3}"
_SAMPLES = r"""
    stbl
     stts
     stss .{4}(\0{4}|.{4}\0{3}\x01).*
     stsc
     stsz
     stz2
     stco
     co64
     ctts
     cslg
     stps
     sdtp
     sgpd* .{4}(roll|rap |sync|prol).*
     sbgp* .{4}(roll|rap |sync|prol).*
     stsd [\0\x01]\0{6}\x01"""
_DATA = r"""
    hdlr
    dinf
     dref \0{7}\x01\0{3}\x0c(url |alis)\0{3}\x01"""
_SOUNDS = (
    "mp4a|alac|Opus|fLaC|ac-3|ec-3|ac-4|dtsc|dtse|dtsh|dtsl|mlpa|samr|sawb|twos|sowt|raw~|NONE|in24|in32|fl32|fl64|lpcm"
    "|ipcm|fpcm|ulaw|alaw|ima4|.mp3|QDM2"
)
# As FFmpeg and other muxers write them. It reads many more, also in other letters, which others do not.
_PICTURES = (
    "avc[13]|h(?:vc|ev)1|av01|vp0[89]|mp4v|ap(?:c[hnso]|4[hx])|AVd[nh1]|jpeg|mjp[ab2]|mx[345][np]|png |rle |tiff|gif "
    "|tga |dv(?:c |cp|pp|5[np]|h[2356pq])|m[12]v1|m1v |xd(?:v[1-9a-f]|5[0-9a-f]|h[d2])|hdv[1-9a-f]|[sh]263|FFV1|HFYU"
    "|FFVH|UL[RY][AG0248]|UQ[YR][02AG]|M8[RY0G][AG0248]|CFHD|2vuy|yuv[24s]|v[234][01]8|v[24]10|[rR]210|R10k|raw |cvid"
    "|SVQ[13]|Y41P|3IVD|rpza"
)
_CODECS = (
    r"(V_(MPEG4/(ISO/(SP|ASP|AP|AVC)|MS/V3)|MPEGH/ISO/HEVC|MPEG[12]|AV1|VP[89]|FFV1|PRORES|MJPEG|UNCOMPRESSED|THEORA|DIRAC"
    r"|REAL/RV[1-4]0|MS/VFW/FOURCC|QUICKTIME)|A_(AAC(/MPEG[24]/(MAIN|LC|SSR|LTP)(/SBR)?)?|E?AC3(/BSID(9|10))?|DTS(/LOSSLESS)?"
    r"|OPUS|VORBIS|FLAC|ALAC|TTA1|WAVPACK4|TRUEHD|MLP|MPEG/L[123]|PCM/(INT/(LIT|BIG)|FLOAT/IEEE)|MS/ACM|QUICKTIME(/QDM[C2])?"
    r"|REAL/(14_4|28_8|COOK|SIPR|RALF|ATRC))|S_(TEXT/(UTF8|SSA|ASS|WEBVTT|ASCII)|SSA|ASS|UTF8|VOBSUB|HDMV/(PGS|TEXTST)|DVBSUB"
    r"|ARIBSUB)|D_WEBVTT/(SUBTITLES|CAPTIONS|DESCRIPTIONS|METADATA))\0*"
)
# Names of the format that programs know.
_BRANDS = (
    r"(isom|iso[2-9a-c]|mp4[12]|avc1|qt\x20\x20|M4[ABPV]\x20|M4V[HP]|3g[2egprs].|dash|msdh|cmf[2cfs]|mmp4|[Ff]4v\x20"
    r"|XAVC|MSNV|av01|dby1|piff|isml).*"
)
# Objects that FFmpeg takes for what they say.
_ESDS = r"\0{4}\x03[\x80-\xff]{0,3}....\x04[\x80-\xff]{0,3}.[\x20-\x23\x40\x60-\x6f\xa3-\xad\xb1\xc0-\xe1].*"
_ABOUT = r"""
  tref
   chap|tmcd|hint|cdsc|sync
  edts
   elst
  udta
   name|titl|hnti|hinf|kind|tagc|©*
   meta (\0{4})?
    hdlr
    keys (?!.*player\.movie).*
    ilst (?!.*mean\0{4}).*
  mdia
   mdhd
   hdlr
   elng
   minf"""
# How the headers of codecs begin. Those of H.264 and HEVC say the profile and the level of their parameter sets, too.
_AVCC = r"\x01(?P<p>...)[\xfc-\xff]([\xe1-\xff]..[\x07\x27\x47\x67](?P=p)|\xe0)"
_HVCC = r"\x01(?P<q>.).{10}(?P<l>.)[\xf0-\xff].{8}(\0|(?=.*B\x01.(?P=q)).*B\x01.{12,17}(?P=l))"
_AV1C = r"\x81..[\0-\x1f]"
_FLAC = r"[\0\x80]\0\0\x22"
_HEADERS = "".join(
    rf"((?!.*{codec})|(?=.*c\xa2.{{1,8}}{begin}))"
    for codec, begin in (
        ("V_MPEG4/ISO/AVC", _AVCC),
        ("V_MPEGH/ISO/HEVC", _HVCC),
        ("V_AV1", _AV1C),
        ("A_FLAC", "fLaC" + _FLAC),
        ("A_OPUS", r"OpusHead[\0\x01]"),
        ("A_AAC", ""),
    )
)
TABLES = {
    "mov": (
        r"""
anywhere
 free*
 skip*
 wide*
 rest \0*
ftyp """
        + _BRANDS
        + r"""
styp*
sidx*
prft*
moof*
 mfhd
 traf*
  tfhd
  tfdt
  trun*
  sdtp
  sgpd*
  sbgp*
  uuid*
mdat*
mfra
uuid*
xml~
©*
rest \0*|\s*|APETAGEX.*
moov
 mvhd (\0.{35}|\x01.{47})"""
        + _UPRIGHT
        + r"""\0{24}.{4}
 iods
 mvex
  mehd
  trex*
  trep*
 udta
  hnti|name|titl|dscp|cprt|perf|auth|gnre|albm|yrrc|loci|XMP_|©*
  chpl (?!)
  meta (\0{4})?
   hdlr
   keys (?!.*player\.movie).*
   ilst (?!.*mean\0{4}).*
 meta (\0{4})?
  hdlr
  keys (?!.*player\.movie).*
  ilst (?!.*mean\0{4}).*
 trak/vide* (?=.*\0{3}\x14vmhd)
  tkhd (\0.{23}|\x01.{35})\0{12}.{4}(?!\0\x01\0{14}\0\x01\0{6}(?!\0{8})).{44}
  tapt (?!)"""
        + _ABOUT
        + r"""
    vmhd .{4}(\0{8}|\0@(\x80\0){3})"""
        + _DATA
        + _SAMPLES
        + rf"""
      ?* (?<={_PICTURES})"""
        + r"""\0{7}\x01.{28}\0{5}\x01.{36}
       avcC """
        + _AVCC
        + r""".*
       hvcC """
        + _HVCC
        + r""".*
       av1C """
        + _AV1C
        + r""".*
       esds """
        + _ESDS
        + r"""
       fiel (?!)
       colr (nclx|nclc|prof).*
       vpcC|glbl|pasp|clap|btrt|mdcv|clli|SmDm|CoLL|d263|jp2h|ACLR|ADHR|APRG|ARES|st3d|sv3d|vexu|hfov|chrm
       rest \0*
 trak/soun*
  tkhd (\0.{23}|\x01.{35})\0{11}[\0\1].{4}"""
        + _UPRIGHT
        + r"\0{8}"
        + _ABOUT
        + r"""
    smhd \0{8}"""
        + _DATA
        + _SAMPLES
        + r"""
      """
        + _SOUNDS
        + r"""* ((?<=fLaC)(?=.*dfLa)|(?<=Opus)(?=.*dOps)|(?<=mp4a)(?=.*esds)|(?<!fLaC|Opus|mp4a))"""
        + r"\0{7}\x01(\0\0.{18}|\0\x01.{34}|\0\x02.{54})"
        + r"""
       esds """
        + _ESDS
        + r"""
       dfLa \0{4}"""
        + _FLAC
        + r""".*
       btrt|chan|chnl|wave|pcmC|alac|dOps|dac3|dec3|dac4|ddts|dmlp|samr|damr|dawp|srat|glbl|pinf
 trak/text|trak/sbtl|trak/subt|trak/subp|trak/clcp|trak/tmcd|trak/hint|trak/meta|trak/data|trak/mdta*
  tkhd (\0.{23}|\x01.{35})\0{11}[\0\2\3]\0{4}"""
        + _UPRIGHT
        + r"\0{8}"
        + _ABOUT
        + r"""
    nmhd|sthd|hmhd
    gmhd \0{3}\x18gmin\0{4}\0@(\x80\0){3}\0{4}.*"""
        + _DATA
        + _SAMPLES
        + "\n      ?* \\0{7}\\x01.*\n"
    ),
    "matroska": r"""
anywhere
 Void=EC*
 CRC-32=BF
rest \0*|\s*
EBML=1A45DFA3
 EBMLVersion=4286|EBMLReadVersion=42F7 \0*\x01
 EBMLMaxIDLength=42F2 \0*\x04
 EBMLMaxSizeLength=42F3 \0*[\x01-\x08]
 DocType=4282 (matroska|webm)\0*
 DocTypeVersion=4287
 DocTypeReadVersion=4285 \0*[\x01-\x04]
Segment=18538067
 SeekHead=114D9B74*
 Cues=1C53BB6B
 Tags=1254C367*
 Attachments=1941A469
 rest \0*
 Info=1549A966
  TimestampScale=2AD7B1
  Duration=4489
  DateUTC=4461
  Title=7BA9
  MuxingApp=4D80
  WritingApp=5741
  SegmentUUID=73A4
  SegmentFilename=7384
 Chapters=1043A770
  EditionEntry=45B9
   EditionUID=45BC
   EditionFlagHidden=45BD \0*
   EditionFlagDefault=45DB
   EditionFlagOrdered=45DD
   ChapterAtom=B6*
    ChapterUID=73C4
    ChapterStringUID=5654
    ChapterTimeStart=91
    ChapterTimeEnd=92
    ChapterFlagHidden=98 \0*
    ChapterFlagEnabled=4598 \0*\x01
    ChapterDisplay=80
     ChapString=85
     ChapLanguage=437C
     ChapLanguageBCP47=437D
     ChapCountry=437E
 Tracks=1654AE6B
  TrackEntry=AE* """
    + _HEADERS
    + r"""
   TrackNumber=D7
   TrackUID=73C5
   TrackType=83 \0*[\x01\x02\x11\x21]
   FlagEnabled=B9
   FlagDefault=88
   FlagForced=55AA
   FlagHearingImpaired=55AB
   FlagVisualImpaired=55AC
   FlagTextDescriptions=55AD
   FlagOriginal=55AE
   FlagCommentary=55AF
   FlagLacing=9C
   MinCache=6DE7
   MaxCache=6DF8
   DefaultDuration=23E383
   TrackTimestampScale=23314F \x3f\x80\0\0|\x3f\xf0\0{6}
   MaxBlockAdditionID=55EE
   Name=536E
   Language=22B59C
   LanguageBCP47=22B59D
   CodecID=86 """
    + _CODECS
    + r"""
   CodecPrivate=63A2
   CodecName=258688
   CodecDelay=56AA
   CodecDecodeAll=AA
   SeekPreRoll=56BB
   ContentEncodings=6D80
    ContentEncoding=6240
     ContentEncodingOrder=5031
     ContentEncodingScope=5032 \0*\x01
     ContentEncodingType=5033 \0*
     ContentCompression=5034
   BlockAdditionMapping=41E4*
    BlockAddIDValue=41F0
    BlockAddIDName=41A4
    BlockAddIDType=41E7 \0*\x04
    BlockAddIDExtraData=41ED
   Audio=E1
    SamplingFrequency=B5
    OutputSamplingFrequency=78B5
    Channels=9F
    BitDepth=6264
   Video=E0
    PixelWidth=B0
    PixelHeight=BA
    FlagInterlaced=9A (?!)
    FieldOrder=9D
    StereoMode=53B8
    AlphaMode=53C0
    PixelCropBottom=54AA
    PixelCropTop=54BB
    PixelCropLeft=54CC
    PixelCropRight=54DD
    DisplayWidth=54B0
    DisplayHeight=54BA
    DisplayUnit=54B2
    AspectRatioType=54B3 \0*
    ColourSpace=2EB524
    Colour=55B0
     MatrixCoefficients=55B1
     BitsPerChannel=55B2
     ChromaSubsamplingHorz=55B3
     ChromaSubsamplingVert=55B4
     CbSubsamplingHorz=55B5
     CbSubsamplingVert=55B6
     ChromaSitingHorz=55B7|ChromaSitingVert=55B8|Range=55B9 \0*[\0-\2]
     TransferCharacteristics=55BA|Primaries=55BB \0*[^\0]
     MaxCLL=55BC
     MaxFALL=55BD
     MasteringMetadata=55D0 ((?=.*U\xd9)(?=.*U\xda)|(?!.*U[\xd9\xda]))((?=.*U\xd1)(?=.*U\xd8)|(?!.*U[\xd1-\xd8]))
      PrimaryRChromaticityX=55D1
      PrimaryRChromaticityY=55D2
      PrimaryGChromaticityX=55D3
      PrimaryGChromaticityY=55D4
      PrimaryBChromaticityX=55D5
      PrimaryBChromaticityY=55D6
      WhitePointChromaticityX=55D7
      WhitePointChromaticityY=55D8
      LuminanceMax=55D9
      LuminanceMin=55DA
    Projection=7670 (?!)
 Cluster=1F43B675*
  Timestamp=E7
  Position=A7
  PrevSize=AB
  SimpleBlock=A3* ([\x80-\xff]|[\x40-\x7f].)..[\0-\x07\x80\x82\x84\x86].*
  BlockGroup=A0*
   Block=A1 ([\x80-\xff]|[\x40-\x7f].)..[\0-\x07\x80\x82\x84\x86].*
   BlockDuration=9B
   ReferencePriority=FA \0*
   ReferenceBlock=FB*
   DiscardPadding=75A2
   BlockAdditions=75A1
    BlockMore=A6*
     BlockAddID=EE
     BlockAdditional=A5 (?!\xb5).*
""",
    "png": r"""
anywhere
IHDR
PLTE
IDAT*
IEND
iCCP
gAMA
cHRM
sRGB
cICP
mDCV
cLLI
tRNS
pHYs
tIME
eXIf
caBX*
iTXt/XML:com.adobe.xmp .{17}\0{5}.*
tEXt|zTXt|iTXt* (?!Raw profile).*
""",
    "jpeg": r"""
anywhere
D8
D9
DA*
DB*
DD
C0|C1|C2
C4*
FE*
E0/JFIF JFIF\0.{7}\0\0
E1/Exif
E1/http://ns.adobe.com/xap/1.0/
E2/ICC_PROFILE*
EB/JP* JP..(?:\0{3}\x01.{4}jumb.{4}jumdc2pa|(?!\0{3}\x01).{8}jumb).*
ED/Photoshop~3.0*
EE/Adobe
""",
    "webp": """
anywhere
VP8X (?!)
VP8~
VP8L
ALPH
ICCP
EXIF
XMP~
C2PA*
""",
    "bmp": """
anywhere
BM=424D
""",
    "descriptors": """
anywhere
05|0A|26|28|2A|38|52|56|59|6A|7A|7F|81|83*
""",
    "photoshop": """
anywhere
03ED
0404
0425
""",
}

DPX = {
    "number of pictures": (770, 772, rb"\0\x01|\x01\0"),
    "encryption key": (660, 664, rb"\xff{4}"),
    "sign": (780, 784, rb"\0{4}|\xff{4}"),
    "padding": (812, 820, rb"(\0{4}|\xff{4}){2}"),
    "image offset": (1408, 1432, rb"(\0{4}|\xff{4}){6}"),
    "border": (1620, 1628, rb"(\0\0|\xff\xff){4}"),
    "levels": (1928, 1940, rb"(\0{4}|\xff{4}){3}"),
    "gamma, black, white": (1944, 1972, rb"(\0{4}|\xff{4}){7}"),
}
"""Fields of DPX, where they lie, and what says nothing."""
EXR = {
    **dict.fromkeys(("compression", "timeCode", "framesPerSecond"), rb".*"),
    "colorInteropID": rb"(?!)",
    "view": rb"(?!)",
}
"""Attributes of EXR that say nothing, or everything, to programs; other texts say nothing, and all else is compared."""
STREAM_TYPES = {
    "": rb"",
    "mpeg1video": rb"[\x01\x02]",
    "mpeg2video": rb"\x02",
    "mpeg4": rb"\x10",
    "h264": rb"\x1b(\x05\x08HDMV\xff\x1b..)?",
    "hevc": rb"\x24(\x05\x04HEVC)?",
    "vvc": rb"\x33",
    **dict.fromkeys(("mp1", "mp2", "mp3"), rb"[\x03\x04]"),
    "aac": rb"\x0f",
    "aac_latm": rb"\x11",
    "ac3": rb"\x81(\x05\x04AC-3|\x05\x0aAC-3.{6}\x81\x06.{6})?|\x06(\x05\x04AC-3)?\x6a[\x01-\x08].{1,8}",
    "eac3": rb"\x87(\x05\x04EAC3)?|\x06(\x05\x04EAC3)?\x7a[\x01-\x08].{1,8}",
    "dts": rb"\x82",
    "truehd": rb"\x83",
    "opus": rb"\x06\x05\x04Opus\x7f\x02\x80.",
    "s302m": rb"\x06\x05\x04BSSD",
    **dict.fromkeys(("dvb_subtitle", "dvb_teletext"), rb"\x06"),
}
"""Type of each codec's streams in MPEG-TS, and the descriptors by which players take a codec ("": of the programme), as
FFmpeg and GStreamer write them."""

_TEXTS = {"T.35 b500314741393403", "T.35 b5003144544731"}  # captions, AFD
CODED = {
    "h264": {f"unit {kind}" for kind in (1, 5, 7, 8, 9, 12)}
    | {f"SEI {kind}" for kind in (0, 1, 6, 45, 137, 144)}
    | _TEXTS,
    "hevc": {f"unit {kind}" for kind in (*range(10), *range(16, 22), 32, 33, 34, 35, 38)}
    | {"SEI 137", "SEI 144"}
    | _TEXTS,
    "av1": {f"unit {kind}" for kind in (1, 2, 3, 4, 6, 15)}
    | {"metadata 01", "metadata 02", "T.35 b5003c00010400", "T.35 b5003c00010401"}  # HDR10+
    | _TEXTS,
}
"""Units, messages and registered data of frames that our encoders write, or that are compared as FFmpeg reads them."""
ENCODERS = re.compile(
    rb"\xdc\x45\xe9\xbd\xe6\xd9\x48\xb7\x96\x2c\xd8\x20\xd9\x23\xee\xefx264 - core \d[ -~]*\0?"
    rb"|\x2c\xa2\xde\x09\xb5\x17\x47\xdb\xbb\x55\xa4\xfe\x7f\xc2\xfc\x4ex265 \(build \d[ -~]*\0?"
)
"""What x264 and x265 say of themselves in their first frame."""

XMP = """
adobe:ns:meta/
http://www.w3.org/1999/02/22-rdf-syntax-ns#
http://www.w3.org/XML/1998/namespace
http://purl.org/dc/elements/1.1/
http://ns.adobe.com/xap/1.0/
http://ns.adobe.com/xap/1.0/rights/
http://ns.adobe.com/photoshop/1.0/
http://iptc.org/std/Iptc4xmpExt/2008-02-29/
http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/
"""
