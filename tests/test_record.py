"""What a run leaves for later: results.json, config.yaml, metrics.jsonl; and two runs in one process."""

import json
import shlex
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import train
from clip import weights_digest
from dassl.engine import metrics
from fileio import file_digest
from runner.config import setup_cfg
from runner.phases import Phases
from runner.provenance import describe_data
from runner.record import config_digest, evaluation, json_text, read_record
from tests.conftest import ROOT, TOY_CLASSES

CONFIGS = ROOT / "configs"


def test_the_second_run_of_a_process_is_that_of_its_command_in_a_process_of_its_own(
    written_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(written_run / "base", tmp_path / "base")
    _, _, *words = shlex.split(read_record(str(written_run / "novel"))["command"])
    subprocess.run([sys.executable, str(ROOT / "train.py"), *words], cwd=tmp_path, check=True)
    records = [read_record(str(folder / "novel")) for folder in (written_run, tmp_path)]
    for record in records:
        for key in ("seconds", "phases", "finished"):
            del record[key]
    assert records[0] == records[1]  # the digest of the evaluated weights among it
    one, other = ((folder / "novel" / "config.yaml").read_text() for folder in (written_run, tmp_path))
    assert one == other


def test_the_record_says_what_was_found_and_how(
    written_run: Path, toy_data: Path, tiny_clip_path: Path
) -> None:
    base, novel = (read_record(str(written_run / part)) for part in ("base", "novel"))
    assert base["schema"] == 2
    assert base["accuracy"] == 100 * base["correct"] / base["total"]
    assert base["macro_f1"] <= 100
    assert [entry["classname"] for entry in base["per_class"]] == TOY_CLASSES[:3]
    assert [entry["classname"] for entry in novel["per_class"]] == TOY_CLASSES[3:]
    assert [entry["label"] for entry in novel["per_class"]] == [0, 1, 2]
    assert sum(entry["correct"] for entry in base["per_class"]) == base["correct"]
    assert sum(entry["total"] for entry in base["per_class"]) == base["total"] == 9
    assert base["backbone_sha256"] == file_digest(tiny_clip_path)
    assert base["saved"] == novel["loaded"]
    assert base["saved"] == {
        "adapter_learner": file_digest(written_run / "base" / "adapter_learner" / "model.pth.tar-3")
    }
    assert (base["data"]["train"]["images"], base["data"]["test"]["images"]) == (12, 9)
    assert base["versions"]["torch"] == torch.__version__
    assert base["device"]
    assert base["command"].startswith(f"python train.py --root {toy_data} --seed 1")
    checkpoint = torch.load(written_run / "base/adapter_learner/model.pth.tar-3", weights_only=True)
    assert base["trainable_parameters"] == sum(t.numel() for t in checkpoint["state_dict"].values())


def test_seconds_and_memory_are_recorded_by_phase(written_run: Path) -> None:
    base, novel = (read_record(str(written_run / part)) for part in ("base", "novel"))
    assert list(base["phases"]) == ["build", "train", "test"]
    assert list(novel["phases"]) == ["build", "test"]
    for phase in base["phases"].values():
        assert phase["seconds"] > 0
        assert phase["peak_memory"] > 50_000_000  # torch alone takes more
    assert base["seconds"] == base["phases"]["train"]["seconds"] + base["phases"]["test"]["seconds"]
    assert base["phases"]["train"]["start_epoch"] == 0
    assert base["phases"]["train"]["seconds_before"] == 0


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass on the clock of the phases."""
    now = [0.0]
    monkeypatch.setattr("runner.phases.time.perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def seconds(phases: Phases) -> dict[str, float]:
    return {name: phase["seconds"] for name, phase in phases.found.items()}


def test_an_inner_phase_does_not_count_for_the_outer_one(pass_time: Callable[[float], None]) -> None:
    phases = Phases()
    pass_time(1)
    with phases.phase("train"):
        pass_time(10)
        with phases.phase("test"):
            pass_time(100)
        pass_time(1000)
    pass_time(10_000)
    assert seconds(phases) == {"train": 1010, "test": 100}


def test_every_test_of_a_trainer_is_timed_and_nothing_of_it_is_replaced(
    pass_time: Callable[[float], None],
) -> None:
    class Theirs:  # of a trainer that somebody dropped in
        def train(self) -> float:
            return self.test("val")

        def test(self, split: str | None = None) -> float:
            pass_time(2)
            return 50.0 if split == "val" else 60.0

    phases, trainer = Phases(), Theirs()
    phases.time_test(trainer)
    with phases.phase("train"):
        assert trainer.train() == 50.0
    assert trainer.test(split="test") == 60.0
    assert seconds(phases) == {"train": 0, "test": 4}
    assert not vars(trainer)
    assert isinstance(trainer, Theirs)
    assert type(trainer).__qualname__ == Theirs.__qualname__
    assert "Timed" not in repr(trainer)


def test_config_yaml_is_the_same_run_again(written_run: Path, toy_data: Path) -> None:
    for part in ("base", "novel"):
        arguments = ["--config-file", str(written_run / part / "config.yaml"), "--output-dir", "elsewhere"]
        cfg = setup_cfg(train.parse_args(arguments))
        assert config_digest(cfg) == read_record(str(written_run / part))["config_digest"]
        assert str(toy_data) == cfg.DATASET.ROOT
        assert cfg.OUTPUT_DIR == "elsewhere"
    assert "COOP" not in (written_run / "base" / "config.yaml").read_text()  # needs no other trainer's file


def test_each_logging_step_leaves_a_line_of_metrics(written_run: Path) -> None:
    rows = [json.loads(line) for line in (written_run / "base" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["epoch"], row["batch"]) for row in rows] == [(2, 1, 2), (5, 2, 2), (8, 3, 2)]
    assert (written_run / "base" / "log.txt").read_text().count("\nepoch [") == len(rows)
    assert all(row["loss"] > 0 and row["lr"] > 0 and row["time"] >= row["data"] for row in rows)
    assert not (written_run / "novel" / "metrics.jsonl").exists()


def test_metrics_after_the_resumed_epoch_and_half_lines_are_dropped(tmp_path: Path) -> None:
    metrics.keep_until(str(tmp_path), 0)  # nothing there
    for epoch in (1, 1, 2, 3):
        metrics.append(str(tmp_path), {"epoch": epoch, "loss": float("nan")})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"epoch": 1, "lo')
    metrics.keep_until(str(tmp_path), 2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"epoch": epoch, "loss": None} for epoch in (1, 1, 2)]
    assert list(tmp_path.iterdir()) == [path]
    metrics.keep_until(str(tmp_path), 0)
    assert path.read_text() == ""


def test_metrics_on_a_full_disk_do_not_stop_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    metrics.append(str(tmp_path), {"epoch": 1})
    assert "disk full?" in caplog.text


def test_an_evaluator_without_counts_gives_the_accuracy_alone() -> None:
    assert evaluation(SimpleNamespace(), 81.5) == {"accuracy": 81.5}
    original = SimpleNamespace(_correct=1, _total=2, _per_class_res=None)  # Dassl 0.6.3's names
    assert evaluation(original, 50.0, {0: "ant"}) == {"accuracy": 50.0}


def test_an_evaluators_counts_are_told_by_class() -> None:
    evaluator = SimpleNamespace(
        results=OrderedDict(accuracy=50.0), correct=1, total=2, per_class={0: (1, 1), 4: (0, 1)}
    )
    assert evaluation(evaluator, 50.0, {0: "ant", 4: "crab"}) == {
        "accuracy": 50.0,
        "correct": 1,
        "total": 2,
        "per_class": [
            {"label": 0, "classname": "ant", "correct": 1, "total": 1},
            {"label": 4, "classname": "crab", "correct": 0, "total": 1},
        ],
    }


def images(root: Path, *names: str) -> SimpleNamespace:
    part = [SimpleNamespace(impath=str(root / name), label=0, classname="ant") for name in names]
    return SimpleNamespace(train_x=part, val=None, test=part[:1])


def test_the_digest_of_the_images_knows_their_order_but_not_where_they_lie(tmp_path: Path) -> None:
    here = describe_data(images(tmp_path / "a", "x.png", "y.png"), str(tmp_path / "a"))
    there = describe_data(images(tmp_path / "b", "x.png", "y.png"), str(tmp_path / "b"))
    other = describe_data(images(tmp_path / "a", "y.png", "x.png"), str(tmp_path / "a"))
    assert here == there
    assert here["train"]["images"] == 2
    assert here["train"]["sha256"] != other["train"]["sha256"]
    assert list(here) == ["train", "test"]
    assert describe_data(SimpleNamespace(), "") == {}


def test_the_digest_of_openais_weights_needs_no_file(tmp_path: Path) -> None:
    assert weights_digest("ViT-B/16").startswith("5806e77cd80f8b59")
    assert weights_digest(str(tmp_path / "nothing.pt")) is None


def test_a_record_keeps_a_class_on_one_line() -> None:
    value = {
        "accuracy": 1 / 3,
        "per_class": [{"label": 0}, {"label": 1}],
        "deep": {"a": {"b": [1, 2]}},
        "e": {},
    }
    text = json_text(value)
    assert json.loads(text) == value
    assert '  {"label": 0},\n  {"label": 1}\n' in text


WRONG = [
    json.dumps({"config": {}} | wrong)
    for wrong in (
        *({"data": 3}, {"data": {"test": 3}}, {"data": {"test": {"sha256": 3}}}, {"saved": []}),
        *({"loaded": {"model": 3}}, {"exported": "x"}, {"epochs": "last"}, {"eval_only": 1}),
        *({"prompts_sha256": []}, {"config": {"TRAINER.HeBA.PREC": ["fp32"]}}),
        {"config": {"OPTIM.MAX_EPOCH": "many"}},
    )
]


@pytest.mark.parametrize(
    "damaged", ["[1]", "{}", '{"config": 3}', "[" * 100_000, '{"config": {}, "config": {}}', *WRONG]
)
def test_what_is_no_record_is_refused_with_the_remedy(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "results.json").write_text(damaged)
    with pytest.raises(ValueError, match=r'results.json" is not the record of a run .*; delete it'):
        read_record(str(tmp_path))
