"""PREC auto: what it becomes, where that is recorded; half precisions on a CPU that emulates them."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import command_line
import train
from adapt import precision
from predict import Predictor
from runner.config import setup_cfg
from runner.folder import settle_precision
from runner.record import settings
from tests.conftest import ROOT
from trainers.heba import HeBA

CONFIGS = ROOT / "configs" / "trainers"
KEY = "TRAINER.HeBA.PREC"
PLAIN = frozenset({"avx2"})
NATIVE = frozenset({"avx2", "avx512_bf16", "avx512_fp16"})
FILES = sorted(CONFIGS.glob("*/*.yaml"))


@pytest.fixture
def plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: PLAIN)


@pytest.fixture(scope="module")
def flags(toy_data: Path, toy_flags: list[str]) -> list[str]:
    """Arguments of a short run that leave the precision to the configuration."""
    at = toy_flags.index(KEY)
    opts = [*toy_flags[:at], *toy_flags[at + 2 :], "OPTIM.MAX_EPOCH", "2", "USE_CUDA", "False"]
    return [
        *("--root", str(toy_data), "--seed", "1", "--trainer", "HeBA"),
        *("--dataset-config-file", str(ROOT / "configs" / "datasets" / "caltech101.yaml")),
        *("--config-file", str(CONFIGS / "HeBA" / "base2new.yaml")),
        *(*opts, "TEST.NO_TEST", "True"),
    ]


@pytest.fixture(scope="module")
def begun_in_amp(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    """A finished run in amp."""
    output = tmp_path_factory.mktemp("amp")
    assert run(output, [*flags, KEY, "amp"]) == 0
    return output


def run(output: Path, flags: list[str], *words: str) -> int:
    return train.main(["--output-dir", str(output), *words, *flags])


def evaluate(output: Path, model: Path, flags: list[str], *pairs: str) -> int:
    words = ("--eval-only", "--model-dir", str(model), "--load-epoch", "last")
    return run(output, [*flags, "TEST.NO_TEST", "False", *pairs], *words)


def recorded(output: Path) -> str:
    return json.loads((output / "results.json").read_text())["config"][KEY]


def settled(arguments: list[str]) -> tuple[str, list[str]]:
    """The precision that a command line gets, and what the log would say."""
    args = train.parse_args(arguments)
    cfg = setup_cfg(args)
    notes = settle_precision(cfg, args)
    return settings(cfg)[KEY], [text for _, text in notes]


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.stem}" for path in FILES])
def test_auto_is_the_published_precision_on_a_gpu_and_fp32_on_a_cpu(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published = {"CoOp": "fp16", "CoCoOp": "fp16", "MaPLe": "fp16", "ZeroshotCLIP": "fp16"}
    method = path.parent.name
    words = ["--trainer", method, "--config-file", str(path), "--output-dir", str(tmp_path)]
    (node,) = yaml.safe_load(path.read_text())["TRAINER"]
    found = {}
    for device in ("cuda", "cpu"):
        monkeypatch.setattr("runner.folder.device_of", lambda cfg, d=device: torch.device(d))
        args = train.parse_args(words)
        cfg = setup_cfg(args)
        settle_precision(cfg, args)
        found[device] = cfg.TRAINER[node].PREC
    on_gpu = "fp32" if path.stem == "demo" else published.get(method, "amp")
    assert found == {"cuda": on_gpu, "cpu": "fp32"}


def test_bf16_is_named_where_the_cpu_multiplies_it(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for cpu, said in ((PLAIN, False), (NATIVE, True)):
        monkeypatch.setattr(precision, "cpu_flags", lambda cpu=cpu: cpu)
        chosen, (note,) = settled(["--output-dir", str(tmp_path / "none"), *flags])
        assert chosen == "fp32"
        assert f"{KEY} auto is fp32 on this CPU" in note
        assert (f"{KEY} bf16 is the quicker choice" in note) == said
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not precision.is_native(torch.bfloat16)


def test_a_finished_run_in_amp_is_finished_for_auto_too(
    begun_in_amp: Path, flags: list[str], capsys: pytest.CaptureFixture[str], plain_cpu: None
) -> None:
    assert run(begun_in_amp, flags) == 0
    assert "Finished already" in capsys.readouterr().out
    assert run(begun_in_amp, [*flags, KEY, "fp32"]) == 2
    assert f"{KEY} 'amp' != 'fp32'" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["resume file", "checkpoint"])
def test_a_continued_run_keeps_its_precision(
    left: str, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_cpu: None
) -> None:
    """The first half names bf16, the second leaves the choice to the configuration."""

    def interrupt(trainer: HeBA, *args: object) -> None:
        if trainer.epoch == (0 if left == "resume file" else 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        at = "save_resume" if left == "resume file" else "save_model"
        original = getattr(HeBA, at)
        patched.setattr(HeBA, at, lambda self, *args: (original(self, *args), interrupt(self)))
        assert run(tmp_path, [*flags, "TRAIN.RESUME_SECONDS", "0", KEY, "bf16"]) == command_line.INTERRUPTED
    assert (tmp_path / "resume.pth.tar").is_file()
    if left == "checkpoint":
        (tmp_path / "resume.pth.tar").unlink()
    assert run(tmp_path, flags) == 0
    log = "\n".join(path.read_text() for path in tmp_path.glob("log.txt*"))
    assert f"{KEY} auto is bf16, as in the run that is continued" in log
    assert "which this CPU only emulates" in log  # the remedy costs the epochs that are done
    assert recorded(tmp_path) == "bf16"


def test_a_model_trained_in_half_is_evaluated_in_fp32_where_half_is_emulated(
    begun_in_amp: Path,
    flags: list[str],
    tmp_path: Path,
    plain_cpu: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(tmp_path, begun_in_amp, flags) == 0
    assert recorded(tmp_path) == "fp32"
    assert "The model was trained in amp, which this CPU only emulates" in (tmp_path / "log.txt").read_text()
    capsys.readouterr()
    assert evaluate(tmp_path, begun_in_amp, flags) == 0
    assert "Finished already" in capsys.readouterr().out


def test_a_configuration_file_does_not_make_the_cpu_emulate_but_the_command_line_does(
    begun_in_amp: Path, flags: list[str], tmp_path: Path, plain_cpu: None
) -> None:
    file = tmp_path / "amp.yaml"
    file.write_text((CONFIGS / "HeBA" / "base2new.yaml").read_text().replace('PREC: "auto"', 'PREC: "amp"'))
    words = ["--eval-only", "--model-dir", str(begun_in_amp), "--load-epoch", "2", "--output-dir", "none"]
    arguments = [*words, *flags]
    at = arguments.index("--config-file")
    arguments[at + 1] = str(file)
    chosen, (note,) = settled(arguments)
    assert chosen == "fp32"
    assert "evaluated in fp32" in note
    assert "command line" in note
    chosen, (note,) = settled([*arguments, KEY, "amp"])
    assert chosen == "amp"
    assert "which this CPU only emulates" in note
    assert "set it to auto or fp32" in note


def test_what_an_emulating_cpu_evaluated_in_fp32_is_finished_on_a_native_one(
    begun_in_amp: Path, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    file = tmp_path / "amp.yaml"
    file.write_text((CONFIGS / "HeBA" / "base2new.yaml").read_text().replace('PREC: "auto"', 'PREC: "amp"'))
    for config in (flags[flags.index("--config-file") + 1], str(file)):
        arguments = [*flags]
        arguments[flags.index("--config-file") + 1] = config
        output = tmp_path / Path(config).stem
        monkeypatch.setattr(precision, "cpu_flags", lambda: PLAIN)
        assert evaluate(output, begun_in_amp, arguments) == 0
        assert recorded(output) == "fp32"
        monkeypatch.setattr(precision, "cpu_flags", lambda: NATIVE)
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        capsys.readouterr()
        assert evaluate(output, begun_in_amp, arguments) == 0
        assert "Finished already" in capsys.readouterr().out


def test_a_model_trained_in_half_is_evaluated_so_where_the_cpu_multiplies_it(
    begun_in_amp: Path, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(precision, "cpu_flags", lambda: NATIVE)
    words = ["--eval-only", "--model-dir", str(begun_in_amp), "--load-epoch", "2"]
    chosen, (note,) = settled([*words, "--output-dir", str(tmp_path), *flags])
    assert chosen == "amp"
    assert f"{KEY} auto is amp, as in the run that is evaluated" in note


def test_pictures_are_classified_in_fp32_where_half_is_emulated(
    begun_in_amp: Path, plain_cpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = Predictor(begun_in_amp)
    assert predictor.precision == precision.PRECISIONS["fp32"]
    assert "was trained in amp, which this CPU only emulates: it is evaluated in fp32" in caplog.text
