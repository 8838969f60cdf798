"""One VOC xml file: its encoding, and what it says of an image."""

import codecs
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from razorlite.data._voc_files import marked_encoding
from razorlite.data.files import read_bytes

SIDES = ("xmin", "ymin", "xmax", "ymax")
_BYTES = 1 << 23  # of the largest xml file that is read; an object takes some 300
_CHARACTERS = 1000  # of a text; what is longer is cut off, and no longer a name
_OBJECTS = 100_000  # of one image; more are no annotation but an attack
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]{1,40})["']""")
_NO_ENCODINGS = ("punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined")
_LARGER = {"gb2312": "gb18030", "gbk": "gb18030"}  # the same, with more characters
_WORDS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True),
    **dict.fromkeys(("", "0", "0.0", "false", "no", "f", "n", "unspecified", "none"), False),
}


@dataclass(frozen=True)
class XmlObject:
    """One object as an xml file states it, with texts as they are.

    Attributes:
        name: of the class.
        difficult: None where the word for it is not known.
        difficult_text: that word.
        boxes: how many there are.
        sides: xmin, ymin, xmax, ymax; "" where one is missing.
    """

    name: str
    difficult: bool | None
    difficult_text: str
    boxes: int
    sides: tuple[str, ...]


@dataclass(frozen=True)
class XmlAnnotation:
    """What an xml file says of an image.

    Attributes:
        filename: of the image, as stated; "" if it is not.
        size: (height, width) in pixels, (0, 0) if it is not stated.
        objects: in the file's order.
    """

    filename: str
    size: tuple[int, int]
    objects: list[XmlObject]


def read_xml(path: Path) -> XmlAnnotation:
    """Read an xml file; no other file is read for it, and entities are not expanded.

    Raises:
        OSError: it cannot be read.
        ElementTree.ParseError: it is malformed.
        ValueError: its encoding is not known, or it is of another kind.
    """
    root = parse_xml(path, _BYTES)
    if root.tag != "annotation":
        raise ValueError(f"it is a <{root.tag[:40]}>, not an <annotation>")
    objects = list(root.iter("object"))
    if len(objects) > _OBJECTS:
        raise ValueError(f"it holds {len(objects)} objects; at most {_OBJECTS} are read")
    return XmlAnnotation(
        filename=_text(root, "filename"),
        size=_size(root),
        objects=[_object(element) for element in objects],
    )


def parse_xml(path: Path, most: int) -> ElementTree.Element:
    """Return the root of an xml file; no other file is read for it, and entities are not expanded.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, or is larger.
        ElementTree.ParseError: it is malformed.
        ValueError: its encoding is not known, or it declares entities.
    """
    return _parse(decode_xml(read_bytes(path, most)))


def to_number(text: str) -> float:
    """Return the number of a text, NaN if it is none."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def decode_xml(data: bytes) -> str:
    """Return the text of an xml file, in the encoding that it declares if that is possible.

    Raises:
        ValueError: it is in an encoding that is not known.
    """
    for encoding in _encodings(data):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode(next(_encodings(data)), errors="replace")


def _encodings(data: bytes) -> Iterator[str]:
    """Yield the encodings that a file may be in, the likeliest first."""
    marked, declared = marked_encoding(data), _DECLARED.match(data)
    if marked or declared is None:
        yield marked or "utf-8"
        return
    name = declared[1].decode().lower()
    if name.startswith(("utf-16", "utf16", "utf-32", "utf32", "ucs")):
        yield "utf-8"  # it could not be read so far if that were true
        return
    try:
        known = codecs.lookup(name).name
        "".encode(known)  # no text encoding otherwise
    except LookupError:
        known = ""
    if known and known not in _NO_ENCODINGS:
        yield _LARGER.get(known, known)
    elif not data.isascii():
        raise ValueError(f"unknown encoding {name!r}; save it as UTF-8")
    yield "utf-8"


def _parse(text: str) -> ElementTree.Element:
    if "<!ENTITY" in text:
        raise ValueError("it declares entities, which annotations do not need; remove them")
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()  # without its namespace
    return root


def _object(element: ElementTree.Element) -> XmlObject:
    difficult = _text(element, "difficult")
    return XmlObject(
        name=_text(element, "name"),
        difficult=_WORDS.get(difficult.lower()),
        difficult_text=difficult,
        boxes=len(element.findall("bndbox")),
        sides=tuple(_text(element, f"bndbox/{side}") for side in SIDES),
    )


def _size(root: ElementTree.Element) -> tuple[int, int]:
    height, width = (to_number(_text(root, f"size/{side}")) for side in ("height", "width"))
    known = all(1 <= side < math.inf for side in (height, width))
    return (int(height), int(width)) if known else (0, 0)


def _text(element: ElementTree.Element, tag: str) -> str:
    return one_line((element.findtext(tag) or "")[:_CHARACTERS])


def one_line(text: str) -> str:
    """Return a text with single spaces and composed accents."""
    return unicodedata.normalize("NFC", " ".join(text.split()))
