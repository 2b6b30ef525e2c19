"""What the scripts share: sides that run in turn, each in a process of its own, and the table of results."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.flops import SIZES
from benchmarks.sides import LENGTHS, SIDES, Work
from command_line import natural, positive

ROOT = Path(__file__).resolve().parent.parent


class Side:
    """A worker process; it computes only when it is asked."""

    def __init__(self, name: str, work: Work, device: str) -> None:
        self.name = name
        request = json.dumps({"side": name, "device": device, "work": asdict(work)})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", request],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self.read()

    def read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the worker of {self.name} ended with status {self.process.wait()}; see above"
            )
        return json.loads(line)

    def ask(self, request: str) -> dict[str, Any]:
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Measured:
    """What one side took: a number a round.

    Attributes:
        seconds: wall clock of each run.
        cpu: processor time of each run.
        rates: operations a second of matrix products, measured between the runs.
        peak: bytes.
        operations: necessary ones of a run.
        threads: of the worker.
        result: what the last run computed.
    """

    side: str
    operations: int
    threads: int
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    peak: int = 0
    result: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def compare(work: Work, args: argparse.Namespace) -> list[Measured]:
    """Runs all sides once to warm up and ``args.rounds`` times in turn."""
    sides, found = [], []
    try:
        for name in args.sides:
            sides.append(Side(name, work, args.device))
            about = sides[-1].about
            found.append(Measured(name, about["operations"], about["threads"]))
        for number in range(args.warm_up + args.rounds):
            for side, measured in zip(sides, found, strict=True):
                rate, times = side.ask("products")["rate"], side.ask("run")
                if number >= args.warm_up:
                    measured.rates.append(rate)
                    measured.seconds.append(times["seconds"])
                    measured.cpu.append(times["cpu"])
        for side, measured in zip(sides, found, strict=True):
            measured.peak = side.ask("peak")["bytes"]
            measured.result = side.ask("result")["result"]
    finally:
        for side in sides:
            side.close()
    return found


def rows(found: list[Measured], what: str, units: int) -> list[dict[str, Any]]:
    """One row a side; ratios are to the first one.

    Args:
        found: all sides.
        what: work that was done.
        units: images or prompts of a run.
    """
    first = found[0]
    made = []
    for side in found:
        rate, products = side.operations / side.median, statistics.median(side.rates)
        made.append(
            {
                "work": what,
                "side": side.side,
                "seconds (median)": f"{side.median:.4g}",
                "lowest to highest": f"{min(side.seconds):.4g} to {max(side.seconds):.4g}",
                "CPU s": f"{statistics.median(side.cpu):.4g}",
                "a second": f"{units / side.median:.4g}",
                "needed GFLOP": f"{side.operations / 1e9:.0f}",
                "GFLOP/s": f"{rate / 1e9:.0f}",
                "products GFLOP/s": f"{products / 1e9:.0f}",
                "of products": f"{rate / products:.0%}",
                "peak GB": f"{side.peak / 1e9:.2f}",
                f"speed vs. {first.side}": f"{first.median / side.median:.2f}x",
                f"memory vs. {first.side}": f"{side.peak / first.peak:.2f}x",
            }
        )
    return made


def largest_difference(found: list[Measured]) -> str:
    """How far the sides' results are from the first side's."""
    first = torch.tensor(found[0].result)
    distances = [f"{side.side} {(torch.tensor(side.result) - first).abs().max():.1e}" for side in found[1:]]
    return f"Largest difference from {found[0].side} (values up to {first.abs().max():.3g}): " + ", ".join(
        distances
    )


def machine(device: str, threads: int) -> str:
    """One line on what it ran on."""
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    else:
        name = f"{cpu_name()}, {os.cpu_count()} CPUs, {threads} threads"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"torch {torch.__version__}, Python {platform.python_version()}, {name}; load at the end {load}"


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def writable(text: str) -> str:
    """The type of a flag that names a file to write.

    Raises:
        ArgumentTypeError: its folder is missing.
    """
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f'"{text}" is in no folder; make it first')
    return text


def existing(text: str) -> str:
    """The type of a flag that names a file or folder.

    Raises:
        ArgumentTypeError: there is none.
    """
    if not Path(text).expanduser().exists():
        raise argparse.ArgumentTypeError(f'there is no "{text}"')
    return str(Path(text).expanduser().absolute())  # workers run in another folder


def device(text: str) -> str:
    """The type of ``--device``.

    Raises:
        ArgumentTypeError: there is no such device.
    """
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f'"{text}" is not known; set it to cpu or cuda')
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch sees no GPU here; set it to cpu")
    return text


def plain_parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The flags that all scripts have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--rounds", type=positive, default=rounds, help="measured runs of each, in turn")
    made.add_argument("--json", type=writable, help="file for the raw numbers")
    return made


def parser(description: str | None, rounds: int = 5, sides: bool = True) -> argparse.ArgumentParser:
    """The flags of scripts that run CLIP; ``sides`` for those that compare."""
    made = plain_parser(description, rounds)
    cuda = torch.cuda.is_available()
    made.add_argument("--device", type=device, default="cuda" if cuda else "cpu", help="cpu or cuda")
    made.add_argument("--backbone", default="ViT-B/16", choices=SIZES, help="shape of the random CLIP")
    made.add_argument("--weights", type=existing, help="CLIP weights to use instead of random ones")
    made.add_argument(
        "--lengths",
        default="caltech101",
        choices=LENGTHS,
        help="data set whose prompt lengths are drawn from",
    )
    made.add_argument("--prompts-file", type=existing, help="JSON of descriptions to use instead")
    if sides:
        both = ["published", "amp" if cuda else "fp32", "bf16"]
        made.add_argument("--sides", nargs="+", choices=SIDES, default=both, help="ratios are to the first")
    made.add_argument("--warm-up", type=natural, default=1 if not cuda else 5, help="runs before them")
    made.add_argument("--seed", type=int, default=0)
    return made


def work(args: argparse.Namespace, job: str, **values: Any) -> Work:
    """The work that the flags describe.

    Raises:
        SystemExit: the prompts' file is of fewer classes.
    """
    made = Work(
        job,
        lengths=args.lengths,
        prompts=args.prompts_file or "",
        backbone=args.backbone,
        weights=args.weights or "",
        seed=args.seed,
        **values,
    )
    described = len(json.loads(Path(made.prompts).read_text("utf-8"))) if made.prompts else made.classes
    if described < made.classes:
        raise SystemExit(
            f'error: --prompts-file "{made.prompts}" describes {described} classes, but {made.classes} are '
            "asked for"
        )
    return made


def report(
    title: str, table: list[dict[str, Any]], notes: list[str], raw: Any, args: argparse.Namespace
) -> None:
    """Prints the table; with ``--json`` the raw numbers go to a file."""
    print(f"### {title}\n\n{tabulate(table, headers='keys', tablefmt='github', disable_numparse=True)}\n")
    for note in notes:
        print(f"{note}  ")
    if args.json:
        Path(args.json).write_text(json.dumps(raw, indent=1))
