"""Weight files that write a file where they are run, to show that nothing of them is."""

import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

EVIL = "evil-was-here"  # what each of them writes into the working directory


class Program(torch.nn.Module):
    """A TorchScript program that writes a file when it is loaded."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> bool:
        return self.training

    @torch.jit.export
    def __setstate__(self, state: bool) -> None:
        torch.save([1], "evil-was-here")  # TorchScript knows no names of Python
        self.training = state


class Call:
    """Pickles as a call of ``open``."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (EVIL, "w"))


def torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(Program()).save(str(path))


def two_directories(path: Path) -> None:
    """An archive of a state dict before one of TorchScript: zip readers may take either."""
    torchscript(path)
    script = path.read_bytes()
    torch.save({"state_dict": {}, "epoch": 1}, path)
    path.write_bytes(path.read_bytes() + script)


def call(path: Path) -> None:
    torch.save({"state_dict": {"weight": Call()}, "epoch": 1}, path)


def call_in_the_older_format(path: Path) -> None:
    torch.save({"state_dict": {"weight": Call()}, "epoch": 1}, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Call(), protocol=2))


def tar(path: Path) -> None:
    """torch's first format, after a member whose name, with which the file begins, looks like a pickle."""
    content = pickle.dumps(Call(), protocol=2)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data = bytearray(path.read_bytes())
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    header[0:1] = b"\x80"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(data))


def pickled(opcodes: bytes) -> Callable[[Path], None]:
    """A file of ``torch.save`` whose pickle is ``opcodes``."""

    def write(path: Path) -> None:
        torch.save({}, path)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, opcodes if name.endswith("data.pkl") else content)

    return write


# {"extra": os.system}, and other default values for a function of torch
CHANGES_TORCH = (
    b"\x80\x02}(X\x05\x00\x00\x00extracos\nsystem\nX\x01\x00\x00\x00a"
    b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__)s\x86bu."
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "torchscript": torchscript,
    "two directories": two_directories,
    "call": call,
    "call in the older format": call_in_the_older_format,
    "plain pickle": plain_pickle,
    "tar": tar,
    "changes torch": pickled(CHANGES_TORCH),
}
