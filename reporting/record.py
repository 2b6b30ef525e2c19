"""Whether a results.json holds what our train.py writes (docs/RECORDS.md): its values by type and range."""

import json
from collections.abc import Callable
from typing import Any

from fileio.text import unique_keys

LARGEST = 1e18  # bytes, weights, seconds: more is damage, and sums of it overflow
LONGEST = 4096  # characters of a name: as many as Linux allows in a path
LONGEST_COMMAND = 2**21  # and in a command line
LARGEST_FILE = 2**25  # bytes, 32 MiB: 100,000 classes take 10
MOST = 100  # phases, and settings of a second evaluation; train.py writes three and one
ROUNDING = 0.005  # percent: an accuracy that somebody rounded to two decimals is no contradiction


def parse(data: bytes) -> Any:
    """The content of a record.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or gives a key twice.
    """
    try:
        return json.loads(data, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check(record: Any) -> None:
    """Raises ValueError unless all that tables, pictures and the page use of a record has the right type.

    A field that is missing, or null where the program has nothing to say, is no fault.

    Raises:
        ValueError: a field has another type or no possible value; the message names it.
    """
    mapping(record, "it")
    for name in ("trainer", "dataset", "subsample_classes", "split", "backbone", "model_dir"):
        optional(record, name, text)
    optional(record, "command", command)
    optional(record, "eval_only", boolean)
    for name in ("seed", "shots"):
        optional(record, name, whole)
    optional(record, "trainable_parameters", amount)
    check_result(record)
    for name, found in (optional(record, "other", few) or {}).items():
        check_result(mapping(found, f"other.{text(name, 'a name in other')}"), f"other.{name}.")
    for name, phase in (optional(record, "phases", few) or {}).items():
        mapping(phase, f"phases.{text(name, 'a name in phases')}")
        for part in ("seconds", "seconds_before", "peak_memory", "peak_gpu_memory"):
            optional(phase, part, amount, f"phases.{name}.")


def check_result(found: dict[str, Any], where: str = "") -> None:
    """Raises ValueError unless an evaluation's accuracy, counts and classes are possible and agree.

    Args:
        found: the record, or an entry of its `other`.
        where: what stands before a field's name in messages.
    """
    accuracy, error = (optional(found, name, percent, where) for name in ("accuracy", "error_rate"))
    correct, total = (optional(found, name, count, where) for name in ("correct", "total"))
    if correct is not None and total is not None:
        check_share(correct, total, where or "it")
        if accuracy is not None and (not total or abs(100 * correct / total - accuracy) > ROUNDING):
            raise ValueError(f"{where}accuracy is {accuracy}, but {correct} of {total} images are right")
    if None not in (accuracy, error) and abs(100 - error - accuracy) > ROUNDING:
        raise ValueError(f"{where}accuracy is {accuracy}, but {where}error_rate is {error}")
    classes = optional(found, "per_class", sequence, where)
    if classes is None:
        return
    for number, entry in enumerate(classes):
        name = f"{where}per_class[{number}]"
        mapping(entry, name)
        for part, wanted in (("classname", text), ("correct", count), ("total", count)):
            wanted(entry.get(part), f"{name}.{part}")
        check_share(entry["correct"], entry["total"], name)
    for part, said in (("correct", correct), ("total", total)):
        if said is not None and (summed := sum(entry[part] for entry in classes)) != said:
            raise ValueError(f"{where}{part} is {said}, but {summed} in the sum of {where}per_class")


def check_share(correct: int, total: int, name: str) -> None:
    """Raises ValueError unless so many of the images can be right."""
    if correct > total:
        raise ValueError(f"{name.rstrip('.')} has {correct} right answers of {total}")


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


def text_of(longest: int) -> Callable[[Any, str], str]:
    """As `kind`, for texts of at most so many characters."""
    is_text = kind(lambda value: isinstance(value, str), "a text")

    def wanted(value: Any, name: str) -> str:
        if len(is_text(value, name)) > longest:
            raise ValueError(f"{name[:40]} has {len(value):,} characters; at most {longest:,} are possible")
        return value

    return wanted


text = text_of(LONGEST)
command = text_of(LONGEST_COMMAND)
boolean = kind(lambda value: isinstance(value, bool), "true or false")
whole = kind(lambda value: isinstance(value, int) and is_number(value, -LARGEST, LARGEST), "a whole number")
count = kind(lambda value: isinstance(value, int) and is_number(value, 0, LARGEST), "a count")
amount = kind(lambda value: is_number(value, 0, LARGEST), "an amount")
mapping = kind(lambda value: isinstance(value, dict), "an object")
sequence = kind(lambda value: isinstance(value, list), "a list")


def few(value: Any, name: str) -> dict[str, Any]:
    """The value if it is an object of few entries: each becomes a column of a table."""
    if len(mapping(value, name)) > MOST:
        raise ValueError(f"{name} has {len(value):,} entries; at most {MOST} are possible")
    return value


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
