"""Which files are pictures, by their names: whatever Pillow reads here, HEIC where its library is installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from PIL import Image

USUAL = "such as .png, .jpg, .webp, .tif and .avif"
HEIF = frozenset({".heic", ".heif", ".hif"})
HEIF_LIBRARY = "HEIC is read with pillow-heif, which is not installed: pip install pillow-heif"
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
# what Pillow knows without decoding it, and EPS, which it hands to another program
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})


@cache
def prepare() -> None:
    """Let Pillow read HEIC where pillow-heif is installed."""
    Image.init()
    if reads_heif():
        from pillow_heif import register_heif_opener

        register_heif_opener()


def reads_heif() -> bool:
    """Whether pillow-heif is installed."""
    try:
        return find_spec("pillow_heif") is not None
    except ValueError:  # it was set to nothing
        return False


@cache
def suffixes() -> frozenset[str]:
    """The endings of all files that can be read, with their dots."""
    prepare()
    known = Image.registered_extensions().items()
    return frozenset(end for end, kind in known if kind in Image.OPEN and kind not in NOT_DECODED)


def suffix_of(name: str) -> str:
    """A name's ending with its dot, in small letters; none where there is no dot."""
    _, dot, end = name.rpartition("/")[2].rpartition(".")
    return f"{dot}{end.lower()}"


def is_picture(name: str) -> bool:
    """Whether a file of this name can be read as a picture, as far as its ending tells."""
    return suffix_of(name) in suffixes()


def unread(name: str) -> str:
    """Why a file of this name is left out: 'a.heic: HEIC is read with ..', or that it is no picture."""
    return f"{name}: {HEIF_LIBRARY}" if suffix_of(name) in HEIF else f"{name} is no kind of picture that is read"


def stem_of(name: str) -> str:
    """A file's name without the ending of a picture; the ending of something else stays."""
    end = suffix_of(name)
    return name[: -len(end)] if end and end in suffixes() | HEIF and len(end) < len(name) else name


def is_heif(start: bytes) -> bool:
    """Whether a file that begins with these twelve bytes is HEIC, whatever its name."""
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS
