"""What the tests share: a tiny random CLIP, and the folder of real data and golden numbers, if any."""

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Lets the programs under test be interrupted where the tests themselves run in the background.

    A process inherits what its parent ignores, but not its parent's handlers: what the tests start is
    interrupted as usual, while the tests themselves go on ignoring these signals.
    """
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _stay)


def _stay(number: int, frame: object) -> None:
    """Handles a signal by doing nothing."""


def copy_repository(folder: Path) -> None:
    """Copies the code, its configurations, scripts and documents into a folder; no data and no runs."""
    for room in ROOT.iterdir():
        if any(room.glob("*.py")) or room.name in ("configs", "scripts", "docs"):
            shutil.copytree(room, folder / room.name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.py"), ROOT / "pyproject.toml"):
        shutil.copy(file, folder)


def train_words(
    data: Path,
    output: Path | str,
    *more: str,
    trainer: str = "HeBA",
    config: str = "base2new",
    dataset: str = "caltech101",
) -> list[str]:
    """Arguments of train.py for a trainer's configuration and a data set's, and ``more`` after these."""
    configs = ROOT / "configs"
    return [
        *("--root", str(data), "--seed", "1", "--trainer", trainer, "--output-dir", str(output)),
        *("--dataset-config-file", str(configs / "datasets" / f"{dataset}.yaml")),
        *("--config-file", str(configs / "trainers" / trainer / f"{config}.yaml"), *more),
    ]


def run_main(main: Callable[[list[str]], int], arguments: Sequence[object]) -> subprocess.CompletedProcess:
    """Runs a command line in this process, which saves the seconds that another one needs to import torch.

    Args:
        main: of train.py, predict.py …
        arguments: what follows the program's name.

    Returns:
        What ``subprocess.run`` returns for a process of its own.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as left:  # argparse
            status = left.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def _end_log_streams() -> Iterator[None]:
    """Removes the log handlers that a command line adds in this process: their stream ends with the test."""
    loggers = logging.getLogger(), logging.getLogger("runner")
    before = {handler for logger in loggers for handler in logger.handlers}
    yield
    for logger in loggers:
        for handler in logger.handlers[:]:
            if type(handler) is logging.StreamHandler and handler not in before:
                logger.removeHandler(handler)


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder with real photographs, published logs and golden numbers; the test is skipped without it."""
    folder = os.environ.get("HEBA_TEST_ASSETS")
    if not folder:
        pytest.skip("HEBA_TEST_ASSETS is not set: real photographs and golden numbers are not at hand")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def tiny_clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State dict file of a random CLIP: image 32, patch 8, 4 vision and 4 text layers of width 128."""
    from clip.model import CLIP

    torch.manual_seed(0)
    model = CLIP(
        embed_dim=64,
        image_resolution=32,
        vision_layers=4,
        vision_width=128,
        vision_patch_size=8,
        context_length=77,
        vocab_size=49408,
        transformer_width=128,
        transformer_heads=2,
        transformer_layers=4,
    )
    path = tmp_path_factory.mktemp("clip") / "tiny.pt"
    torch.save(model.half().state_dict(), path)
    return path


TOY_CLASSES = ["ant", "ceiling_fan", "crab", "grand_piano", "lotus", "scissors"]


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root with a Caltech101 of 6 classes (5 train, 4 val, 3 test images each) and descriptions."""
    from PIL import Image

    root = tmp_path_factory.mktemp("data")
    images = root / "caltech-101" / "101_ObjectCategories"
    generator = torch.Generator().manual_seed(0)
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(TOY_CLASSES):
        (images / name).mkdir(parents=True)
        parts = ["train"] * 5 + ["val"] * 4 + ["test"] * 3
        for number, part in enumerate(parts):
            colour = torch.tensor([label % 2, label // 2 % 2, label // 4]) * 150
            pixels = colour + torch.randint(0, 100, (36, 40, 3), generator=generator)
            path = f"{name}/image_{number:04d}.png"
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(images / path)
            split[part].append([path, label, name])
    (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(json.dumps(split))
    (root / "descriptions").mkdir()
    described = {
        name.replace("_", " "): [f"a {name} has colours.", f"people know what a {name} is."]
        for name in TOY_CLASSES
    }
    (root / "descriptions" / "caltech101.json").write_text(json.dumps(described))
    return root


@pytest.fixture(scope="session")
def toy_flags(toy_data: Path, tiny_clip_path: Path) -> list[str]:
    """KEY VALUE pairs that make HeBA's published configuration run on the toy data within seconds."""
    return [
        *("MODEL.BACKBONE.NAME", str(tiny_clip_path)),
        *("MODEL.BACKBONE.QUICK_GELU", "True"),
        *("TRAINER.HeBA.ADAPTER_END", "-1"),
        *("TRAINER.HeBA.PREC", "fp32"),
        *("DATALOADER.NUM_WORKERS", "0"),
        *("DATALOADER.TRAIN_X.BATCH_SIZE", "4"),
        *("OPTIM.MAX_EPOCH", "3"),
        *("DATASET.NUM_SHOTS", "4"),
    ]


@pytest.fixture(scope="session")
def job_flags(toy_flags: list[str]) -> list[str]:
    """The same pairs for reproduce.py, where ``--shots 4`` sets the last one."""
    assert toy_flags[-2:] == ["DATASET.NUM_SHOTS", "4"]
    return toy_flags[:-2]


@pytest.fixture(scope="session")
def written_run(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, toy_flags: list[str]) -> Path:
    """Folder with a training on base classes (`base`) and the evaluation of the novel ones (`novel`).

    Both are as train.py wrote them; tests/result_trees.py makes records and logs from them.
    """
    import train
    from tests import result_trees

    folder = tmp_path_factory.mktemp("written")
    evaluation = ["--eval-only", "--model-dir", "base", "--load-epoch", "last"]
    opts = [*toy_flags, "TRAIN.PRINT_FREQ", "2", "DATASET.SUBSAMPLE_CLASSES"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        both = [*train_words(toy_data, "base", *opts, "base"), "--then"]
        both += train_words(toy_data, "novel", *evaluation, *opts, "new")
        assert train.main(both) == 0
    result_trees.WRITTEN[:] = [folder]
    return folder
