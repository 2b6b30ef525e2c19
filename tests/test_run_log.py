"""A run's log gets all that is printed and logged; afterwards stdout and logging are the caller's again."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import train
from runner.log import run_log
from tests.conftest import train_words

logger = logging.getLogger("trainers.of.somebody")


class Logger:
    """As the original Dassl's: a copy of stdout in a file, which closes both, also when it is dropped."""

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


@pytest.fixture(params=["ours", "original"])
def dassl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose ``setup_logger`` keeps the log."""

    def setup_logger(output: str) -> None:
        Path(output).mkdir(parents=True, exist_ok=True)
        sys.stdout = Logger(Path(output) / "log.txt")
        logging.disable(logging.WARNING)  # as the import of its WILDS data sets does

    if request.param == "original":
        monkeypatch.setattr("runner.log.setup_logger", setup_logger)
    return request.param


@pytest.fixture
def _callers_own() -> Iterator[None]:
    """Fails the test if stdout or the root logger are not what they were before."""
    root = logging.getLogger()
    before = sys.stdout, root.handlers[:], root.level, root.manager.disable
    yield
    assert (sys.stdout, root.handlers, root.level, root.manager.disable) == before


@pytest.mark.usefixtures("dassl", "_callers_own")
@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_prints_and_messages_reach_the_log_of_their_run_alone(
    ends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        with contextlib.suppress(KeyError), run_log(str(tmp_path / name)):
            print("printed by", name)
            logger.info("logged by %s", name)
            if ends == "with an error":
                raise KeyError
        print("between")
        logger.info("unheard")
    for name in ("one", "two"):
        assert (tmp_path / name / "log.txt").read_text() == f"printed by {name}\nlogged by {name}\n"
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        *("printed by one", "logged by one", "between", "printed by two", "logged by two", "between")
    ]


@pytest.mark.usefixtures("dassl", "_callers_own")
def test_runs_of_one_process_have_a_log_each(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*toy_flags[:4], *toy_flags[8:10], "TRAINER.ZeroshotCLIP.PREC", "fp32"]
    options += ["DATASET.SUBSAMPLE_CLASSES"]
    zero_shot = {"trainer": "ZeroshotCLIP", "config": "vit_b16"}
    calls = [
        train_words(toy_data, tmp_path / half, "--eval-only", *options, half, **zero_shot)
        for half in ("base", "new")
    ]
    assert train.main([*calls[0], "--then", *calls[1]]) == 0
    for half in ("base", "new"):
        assert (tmp_path / half / "results.json").is_file()
        assert (tmp_path / half / "log.txt").read_text().count("=> result") == 1
    said = capsys.readouterr()
    assert said.out.count("=> result") == 2
    assert "closed file" not in said.err


@pytest.mark.usefixtures("dassl", "_callers_own")
def test_an_error_of_a_run_leaves_no_log_behind(
    toy_data: Path, tmp_path: Path, tiny_clip_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opts = ["MODEL.BACKBONE.NAME", str(tiny_clip_path), "INPUT.SIZE", "(64, 64)"]
    assert train.main(train_words(toy_data, tmp_path / "out", *opts)) == 2
    assert (tmp_path / "out" / "log.txt").is_file()  # so the run had begun
    assert "error: " in capsys.readouterr().err
