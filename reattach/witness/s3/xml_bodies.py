"""XML that clients send."""

from __future__ import annotations

from typing import NoReturn
from xml.etree import ElementTree
from xml.parsers import expat


class BadXml(Exception):
    """No XML, or XML with a document type, whose entities could make a short text long."""


class _Doctype(Exception):
    pass


def parse(raw: bytes) -> ElementTree.Element:
    """Raises BadXml."""
    if has_doctype(raw):
        raise BadXml("it has a document type")
    try:
        return ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError, LookupError) as e:
        raise BadXml(str(e)) from e


def has_doctype(raw: bytes) -> bool:
    """Whether XML, in whatever encoding, has a document type; what is no XML has none."""

    def found(*_: object) -> NoReturn:
        raise _Doctype

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = found
    try:
        parser.Parse(raw, True)
    except _Doctype:
        return True
    except (expat.ExpatError, ValueError, LookupError):
        pass
    return False
