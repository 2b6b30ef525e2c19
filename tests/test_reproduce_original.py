"""Several runs in a process on the original Dassl, whose logger closes the stream that it was given."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

import train
from tests.conftest import ROOT


class Logger:
    """A copy of stdout in a file, which closes both when it is dropped: as facts of the original have it."""

    def __init__(self, path: Path) -> None:
        self.console = sys.stdout
        self.file = path.open("a")

    def write(self, text: str) -> None:
        self.console.write(text)
        self.file.write(text)

    def flush(self) -> None:
        self.console.flush()
        self.file.flush()

    def close(self) -> None:
        self.console.close()
        self.file.close()

    def __del__(self) -> None:
        self.close()


@pytest.fixture
def _original_logger(monkeypatch: pytest.MonkeyPatch) -> Any:
    def setup_logger(output: str) -> None:
        Path(output).mkdir(parents=True, exist_ok=True)
        sys.stdout = Logger(Path(output) / "log.txt")

    root = logging.getLogger()
    handlers, stdout = root.handlers[:], sys.stdout
    monkeypatch.setattr("runner.log.setup_logger", setup_logger)
    yield
    root.handlers[:], sys.stdout = handlers, stdout


@pytest.mark.usefixtures("_original_logger")
def test_a_second_run_still_has_a_stdout(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        *("--root", str(toy_data), "--seed", "1", "--trainer", "ZeroshotCLIP", "--eval-only"),
        *("--dataset-config-file", str(ROOT / "configs/datasets/caltech101.yaml")),
        *("--config-file", str(ROOT / "configs/trainers/ZeroshotCLIP/vit_b16.yaml")),
    ]
    options = [*toy_flags[:4], *toy_flags[8:10], "TRAINER.ZeroshotCLIP.PREC", "fp32"]
    calls = [
        [*common, "--output-dir", str(tmp_path / half), *options, "DATASET.SUBSAMPLE_CLASSES", half]
        for half in ("base", "new")
    ]
    logging.getLogger().handlers.clear()  # as in a process of its own
    assert train.main([*calls[0], "--then", *calls[1]]) == 0
    for half in ("base", "new"):
        assert (tmp_path / half / "results.json").is_file()
        assert "=> result" in (tmp_path / half / "log.txt").read_text()
    said = capsys.readouterr()
    assert said.out.count("=> result") == 2
    assert "closed file" not in said.err
