"""A few-shot pickle of another repository is read without executing anything from it."""

import builtins
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets import few_shot_pickles
from datasets.few_shot_pickles import read_pickle


class Calls:
    """Pickles to a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def evil(marker: Path) -> dict[str, Any]:
    """Objects whose unpickling by ``pickle`` would create a file, or fill the memory."""
    touch = f"open({str(marker)!r}, 'w')"
    system = Calls(os.system, f"touch '{marker}'")
    return {
        "os.system": system,
        "eval": Calls(builtins.eval, touch),
        "exec": Calls(builtins.exec, touch),
        "open": Calls(open, str(marker), "w"),
        "in the lists": {"train": [system], "val": []},
        "as a key": {system: 1},
        "nested": {"train": [Calls(getattr, Calls(__import__, "os"), "system")]},
        "partial": Calls(__import__("functools").partial, os.system, f"touch '{marker}'"),
    }


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path, protocol: int) -> None:
    path, marker = tmp_path / "a.pkl", tmp_path / "ran"
    for content in evil(marker).values():
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(ValueError, match="not a pickle of image lists alone") as refused:
            read_pickle(path)
        assert "\n" not in str(refused.value)
        assert not marker.exists()
    pickle.loads(pickle.dumps(evil(marker)["open"])).close()  # so that the check above can fail
    assert marker.exists()


def binary(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def laughing() -> list:
    """Small in a pickle, and 2 ** 60 words to print."""
    inner: list = ["ha"]
    for _ in range(60):
        inner = [inner, inner]
    return inner


class Plain:
    """A ``Datum`` to all who look at its name alone."""


@pytest.mark.parametrize("path", [laughing(), b"\x80", 5])
def test_an_image_whose_path_is_no_text_is_refused_by_its_type(tmp_path: Path, path: Any) -> None:
    image = Plain()
    vars(image).update(_impath=path, _label=0, _classname="ant")
    data = pickle.dumps({"train": [image]}, protocol=2).replace(b"Plain\n", b"Datum\n")
    (tmp_path / "a.pkl").write_bytes(data)
    refused = "operation" if isinstance(path, bytes) else f"an image of {type(path).__name__}, int, str"
    with pytest.raises(ValueError, match=refused):
        read_pickle(tmp_path / "a.pkl")


def test_a_pickle_of_more_steps_than_any_list_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_shot_pickles, "MOST_OPCODES", 1000)
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + b"N" * 2000 + b".")
    with pytest.raises(ValueError, match="more than 1,000 operations"):
        read_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo of 2 billion entries
        b"\x80\x04\x8d" + b"\xff" * 8 + b".",  # a string of 2**64 bytes
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # a byte array of a terabyte
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",  # a registered extension
        b"\x80\x02Pid\n.",  # a persistent id
        b"\x80\x02cbuiltins\neval\n" + binary("1") + b"\x85R.",
        b"\x80\x02cx\nDatum\n" + binary("1") + b"\x85R.",  # a call of the one class that is known
        b"\x80\x02cx\nDatum\n)\x81}" + binary("__setstate__") + b"cx\nDatum\nsb}b.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02]q\x00h\x00a.",  # a list of itself
        b"\x80\x02}.",
        b"",
        b"<html>",
        b"\x80\x04",
    ],
)
def test_hand_made_and_damaged_pickles_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^it is not a pickle of image lists alone \(.+\)$"):
        read_pickle(path)


def test_a_pickle_larger_than_any_list_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.pkl").open("wb") as file:
        file.truncate(20 << 20)
    with pytest.raises(ValueError, match="it has 20,971,520 bytes"):
        read_pickle(tmp_path / "a.pkl")
