"""Whether a results.json holds what our train.py writes (docs/RECORDS.md): its values by type and range."""

import json
from collections.abc import Callable
from typing import Any

LARGEST = 1e18  # bytes, weights, seconds: more is damage, and sums of it overflow


def check(record: Any) -> None:
    """Raises ValueError unless all that tables, pictures and the page use of a record has the right type.

    A field that is missing, or null where the program has nothing to say, is no fault.

    Raises:
        ValueError: a field has another type or no possible value; the message names it.
    """
    mapping(record, "it")
    for name in ("trainer", "dataset", "subsample_classes", "split", "backbone", "model_dir", "command"):
        optional(record, name, text)
    optional(record, "eval_only", boolean)
    for name in ("seed", "shots"):
        optional(record, name, whole)
    optional(record, "trainable_parameters", amount)
    for name, found in (optional(record, "other", mapping) or {}).items():
        mapping(found, f"other.{name}")
    for name, phase in (optional(record, "phases", mapping) or {}).items():
        mapping(phase, f"phases.{name}")
        for part in ("seconds", "seconds_before", "peak_memory", "peak_gpu_memory"):
            optional(phase, part, amount, f"phases.{name}.")
    for number, found in enumerate(optional(record, "per_class", sequence) or []):
        mapping(found, f"per_class[{number}]")
        for part, wanted in (("classname", text), ("correct", whole), ("total", whole)):
            wanted(found.get(part), f"per_class[{number}].{part}")
        if not 0 <= found["correct"] <= found["total"]:
            raise ValueError(f"per_class[{number}] has {found['correct']} right answers of {found['total']}")


def optional(record: dict[str, Any], name: str, wanted: Callable, where: str = "") -> Any:
    """The value of a field if it is as wanted; None if it is missing or null."""
    value = record.get(name)
    return None if value is None else wanted(value, where + name)


def kind(holds: Callable[[Any], bool], what: str) -> Callable[[Any, str], Any]:
    """A function that returns a value of this kind, and raises ValueError for all others."""

    def wanted(value: Any, name: str) -> Any:
        if not holds(value):
            raise ValueError(f"{name} is {shown(value)}, not {what}")
        return value

    return wanted


def is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


text = kind(lambda value: isinstance(value, str), "a text")
boolean = kind(lambda value: isinstance(value, bool), "true or false")
whole = kind(lambda value: isinstance(value, int) and is_number(value, -LARGEST, LARGEST), "a whole number")
amount = kind(lambda value: is_number(value, 0, LARGEST), "an amount")
mapping = kind(lambda value: isinstance(value, dict), "an object")
sequence = kind(lambda value: isinstance(value, list), "a list")


def percent(value: Any, name: str) -> float:
    """The value as a float.

    Raises:
        ValueError: it is no percentage.
    """
    if not is_number(value, 0, 100):
        raise ValueError(f"{name} is {shown(value)}, not a percentage")
    return float(value)


def shown(value: Any) -> str:
    """A value's beginning, as JSON writes it; what it holds need not be printed."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return "a number beyond 1e18"  # to print it may be refused, and takes quadratic time
    told = json.dumps(value)
    return told if len(told) <= 40 else told[:40] + "…"
