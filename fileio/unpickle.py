"""Reading what ``torch.save`` wrote without running anything from the file.

``torch.load(weights_only=True)`` alone is not enough: until torch 2.5 it opened TorchScript archives all the
same, and the old tar format was a way around it. So both are recognised and refused before torch opens the
file. The messages are our own, because torch's recommend to read such files with code and all.
"""

import pickle
import tarfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

OBJECTS = "it holds Python objects, which are not loaded"
SCRIPT = "it holds a TorchScript program, which is not run"


def is_torchscript(path: str | Path) -> bool:
    """Whether a zip file is a TorchScript archive, in Python's eyes or in torch's.

    Two readers of one crafted zip file may see different members.

    Raises:
        zipfile.BadZipFile: the file is damaged.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    try:
        names += torch._C.PyTorchFileReader(str(path)).get_all_records()
    except RuntimeError as error:
        raise zipfile.BadZipFile("torch cannot read it") from error
    return any(name.rpartition("/")[2].lower() == "constants.pkl" for name in names)


def read_tensors(path: str | Path, *, mmap: bool = False) -> Any:
    """The content of a file of ``torch.save`` that holds tensors and plain containers, on the CPU.

    Args:
        path: the file.
        mmap: leave the tensors in the file until they are used.

    Raises:
        HasObjects: it holds other Python objects, or is damaged in a way that looks like that.
        ValueError: it is damaged or of another kind; says how in a few words, without the file's name.
        OSError: it cannot be read.
    """
    import torch

    _check_format(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError:
        raise HasObjects(OBJECTS) from None
    except Exception as error:  # damaged pickles and archives raise nearly anything
        raise ValueError(_first_line(error)) from None


def read_without_objects(path: str | Path) -> Any:
    """The same for files with Python objects: a ``Placeholder`` stands for each of them.

    Raises:
        ValueError: it cannot be read like that either.
        OSError: it cannot be read.
    """
    import torch

    _check_format(path)
    module = types.ModuleType("inert_pickle")
    module.Unpickler = _InertUnpickler
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)
    except Exception:  # as above
        raise ValueError(OBJECTS) from None


class HasObjects(ValueError):
    """A file holds Python objects."""


class Placeholder:
    """Stands for a pickled object of any class; takes whatever the pickle does to it and keeps nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...


class _InertUnpickler(pickle._Unpickler):
    """Rebuilds tensors and plain containers; any other class or function becomes a ``Placeholder``.

    Python's own implementation, because the one in C lets a pickle set attributes of whatever it can name,
    such as the functions that rebuild tensors, and reserve any amount of memory by one opcode.
    """

    ALLOWED = {
        ("collections", "OrderedDict"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
    }
    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in self.ALLOWED else Placeholder

    def load_build(self) -> None:
        """Sets attributes of nothing but a state dict, which has one."""
        state = self.stack.pop()
        built = self.stack[-1]
        if type(built) is OrderedDict and "_metadata" in state:
            built._metadata = state["_metadata"]
        elif type(built) not in (OrderedDict, Placeholder):
            raise pickle.UnpicklingError(f"attributes of {type(built).__name__}")

    dispatch[pickle.BUILD[0]] = load_build


def _check_format(path: str | Path) -> None:
    """Raises ValueError unless it begins like a file of ``torch.save`` and is none that torch would run."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        try:
            if is_torchscript(path):
                raise ValueError(SCRIPT)
        except zipfile.BadZipFile as error:
            raise ValueError("the archive is damaged or cut off") from error
    elif not start.startswith(b"\x80"):  # of torch's older format, a series of pickles
        raise ValueError(f"it starts with {start}" if start else "it is empty")
    elif tarfile.is_tarfile(path):
        raise ValueError("it is a tar archive, torch's format before version 0.2, which is not read")


def _first_line(error: Exception) -> str:
    """The start of an error's text; of torch's, without its advice to read files with code and all."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines and "weights_only" not in lines[0] else type(error).__name__
