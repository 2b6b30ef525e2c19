"""Text that users write: blank names, and keys that a file gives twice."""

import unicodedata
from collections.abc import Iterable
from typing import Any

# Letters and symbols by their category, yet drawn as nothing: the Hangul fillers, the empty Braille cell.
FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
UNSEEN = (
    "Cc",
    "Cf",
    "Cs",
    "Mn",
    "Me",
    "Mc",
    "Zs",
    "Zl",
    "Zp",
)  # controls, marks without a letter, separators


def is_blank(text: str) -> bool:
    """Whether nothing in ``text`` is visible by itself: spaces, control and zero-width characters, marks."""
    return all(character in FILLERS or unicodedata.category(character) in UNSEEN for character in text)


def unique_keys(pairs: Iterable[Iterable[Any]]) -> dict[Any, Any]:
    """The mapping of (key, value) pairs; also an ``object_pairs_hook`` for ``json.loads``.

    Raises:
        ValueError: a key stands there twice; ``dict`` would keep the last value without a word.
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'"{key}" stands there twice; keep one of them')
        found[key] = value
    return found
