"""Checks of a method's options; every message names the key."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# How messages name the type of a value; numbers may be written as whole ones, lists as tuples.
KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
}


def check_type(value: object, default: object, key: str) -> None:
    """Raises ValueError unless ``value`` is of its default's kind (``KINDS``); None allows all kinds."""
    kind = KINDS.get(type(default))
    if kind and KINDS.get(type(value)) != kind and (type(default), type(value)) != (float, int):
        raise ValueError(f"{key} is {value!r}; set it to {kind}, like its default {default!r}")


def check_number(value: object, key: str, least: float = 0, most: float = math.inf) -> None:
    """Raises ValueError unless ``value`` is a finite number in [``least``, ``most``]; names the key."""
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        allowed = f">= {least}" if most == math.inf else f"between {least} and {most}"
        raise ValueError(f"{key} is {value}; set it to a number {allowed}")


def check_numbers(options: Any, key: str, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raises ValueError unless each option that ``limits`` names lies between its least and most value."""
    for name, (least, most) in limits.items():
        check_number(getattr(options, name), f"{key}.{name}", least, most)


def check_choices(options: Any, key: str, choices: Mapping[str, Sequence[Any]]) -> None:
    """Raises ValueError unless each option that ``choices`` names has one of the values listed for it."""
    for name, allowed in choices.items():
        if (value := getattr(options, name)) not in allowed:
            raise ValueError(f'{key}.{name} is "{value}"; set it to one of {", ".join(map(str, allowed))}')
