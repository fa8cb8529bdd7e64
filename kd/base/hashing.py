"""Digests: of what decides a result, of text, of bytes and of files. All are SHA-256, written in hexadecimal."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SHORT = 32
"""Digits of a digest that names something: 128 bits."""


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return 32 digits that differ where `parts` do; order does not count. Raises TypeError for what is not JSON."""
    return text_digest(json.dumps(dict(parts), sort_keys=True))[:SHORT]


def text_digest(text: str) -> str:
    """Return the 64 digits of a text's UTF-8 bytes."""
    return bytes_digest([text.encode()])


def bytes_digest(pieces: Iterable[bytes]) -> str:
    """Return the 64 digits of pieces of bytes, one after the other; they are taken one at a time."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def lines_digest(lines: Iterable[str]) -> str:
    """Return 32 digits of lines joined by newlines; they are taken one at a time."""
    return bytes_digest((b"\n" if number else b"") + line.encode() for number, line in enumerate(lines))[:SHORT]


def file_digest(path: Path, before: bytes = b"") -> str:
    """Return the 64 digits of `before` and then all bytes of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha256(before)).hexdigest()


def digest_of_files(paths: Iterable[Path]) -> str:
    """Return 32 digits of files' names and bytes, in this order; folders do not count. Raises OSError."""
    return lines_digest(f"{path.name} {file_digest(path)}" for path in paths)
