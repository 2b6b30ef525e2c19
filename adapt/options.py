"""Checks of a method's options; every message names the key."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def check_type(value: object, default: object, key: str) -> None:
    """Raises ValueError unless ``value`` is of the type of its default, as far as that says one."""
    kinds = {float: (float, int), tuple: (tuple, list)}.get(type(default), (type(default),))
    if default is not None and type(value) not in kinds:
        raise ValueError(f"{key} is {value!r}; give it a value like its default, {default!r}")


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
