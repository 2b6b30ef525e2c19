"""Finished runs without a training each: what one run of train.py wrote, changed, where scripts put runs.

The fixture `written_run` runs the program once and makes the functions here usable.
"""

import json
import re
import zlib
from pathlib import Path

import pytest

import parse_test_res
from reporting.layout import place_of
from reporting.published import DATA_SETS

BASE2NEW = "base2new/{half}/{dataset}/shots_{shots}/{trainer}/{config}"
NAMES = {name: key for key, name in DATA_SETS.items()}  # DATASET.NAME in lower case
WRITTEN: list[
    Path
] = []  # one folder: `base`, a training on base classes; `novel`, the evaluation of the novel ones
IMAGES = 1_000_000  # of a class: so many have any accuracy with four decimals
OURS = "VLM-HeBA: a run is finished when its results.json is there\n"


def written(part: str, name: str) -> str:
    """A file of the program's own run: of its training (`base`) or of its evaluation (`novel`)."""
    return (WRITTEN[0] / part / name).read_text("utf-8")


def experiment(
    half: str, dataset: str, trainer: str = "HeBA", config: str = "base2new", shots: int = 16
) -> str:
    """The folder of an experiment's seeds."""
    return BASE2NEW.format(half=half, dataset=dataset, trainer=trainer, config=config, shots=shots)


def is_evaluation(folder: Path) -> bool:
    return bool({"test_new", "evaluation"} & set(folder.parts))


def make_record(folder: Path, accuracy: float, /, **changes) -> dict:
    """The program's record with what differs in a run in this folder, and with the changes."""
    record = json.loads(written("novel" if is_evaluation(folder) else "base", "results.json"))
    record |= {
        "backbone": "ViT-B/16",
        "other": {},
        "subsample_classes": "new" if "test_new" in folder.parts else "base",
        "model_dir": "",
    }
    if place := place_of(folder, folder):
        record |= {"dataset": NAMES.get(place.dataset, place.dataset), "seed": int(place.seed)}
        record |= {"shots": place.shots, "trainer": place.trainer or record["trainer"]}
        if not {"test_new", "train_base"} & set(folder.parts):
            record["subsample_classes"] = "all"
    step = 4 if record["trainer"] == "ZeroshotCLIP" else 7
    return with_accuracy(record, accuracy, step) | changes


def with_accuracy(found: dict, accuracy: float, step: int = 7) -> dict:
    """An evaluation with another accuracy, and counts that give it; the classes differ by some points.

    Args:
        found: a record, or an entry of its `other`.
        accuracy: in percent.
        step: with another one other classes are the hard ones.
    """
    points = [(step * number) % 11 - 5 for number in range(len(found["per_class"]))]
    mean = sum(points) / len(points)
    room = min(1, accuracy / 10, (100 - accuracy) / 10)  # no class has less than 0 %, or more than 100 %
    classes = [
        entry | {"correct": round((accuracy + room * (point - mean)) * IMAGES / 100), "total": IMAGES}
        for entry, point in zip(found["per_class"], points, strict=True)
    ]
    total, correct = (sum(entry[part] for entry in classes) for part in ("total", "correct"))
    found = found | {"accuracy": accuracy, "error_rate": 100 - accuracy}
    return found | {"per_class": classes, "correct": correct, "total": total}


def write_results(folder: Path, accuracy: float, /, **changes) -> None:
    """A finished run of ours; its classes, data set and seed follow from the folder unless told."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(make_record(folder, accuracy, **changes)))


def ours(accuracy: str = "84.2", part: str = "base") -> str:
    """The program's log with this accuracy in each of its results."""
    return re.sub(r"(\* accuracy): [\d.]+%", rf"\1: {accuracy}%", written(part, "log.txt"))


def theirs(accuracy: str = "84.2", part: str = "base", **changes: str) -> str:
    """The program's log as another code of the family writes it: without our line.

    Args:
        accuracy: in each result.
        part: `base`, a training; `novel`, an evaluation.
        changes: lines of arguments and configuration by their last name, e.g. ``NAME="DescribableTextures"``.
    """
    log = ours(accuracy, part)
    assert OURS in log
    log = log.replace(OURS, "")
    for name, value in changes.items():
        log, number = re.subn(rf"^( *{name}):.*$", rf"\1: {value}", log, count=1, flags=re.MULTILINE)
        assert number, name
    return log


def in_folder(folder: Path, accuracy: str = "84.2", **changes: str) -> str:
    """Another code's log of a run in this folder, which says so."""
    record = make_record(folder, 0)
    told = {"NAME": record["dataset"], "seed": str(record["seed"]), "trainer": record["trainer"]}
    told |= {"NUM_SHOTS": str(record["shots"]), "SUBSAMPLE_CLASSES": record["subsample_classes"]}
    told |= {"model_dir": ""}
    return theirs(accuracy, "novel" if is_evaluation(folder) else "base", **(told | changes))


def cut(log: str, after: str = "epoch [3/3]") -> str:
    """The log of a run that was killed: it ends with the line that begins so."""
    at = log.index(f"\n{after}")
    return log[: log.index("\n", at + 1) + 1]


def parse(capsys: pytest.CaptureFixture, *argv: object) -> tuple[int, str, str]:
    """Exit status, output and errors of parse_test_res.py's command line."""
    status = parse_test_res.main([str(arg) for arg in argv])
    return status, *capsys.readouterr()


def write_log(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_protocols(output: Path, datasets: list[str], seeds: int = 3) -> None:
    """Runs of all protocols: HeBA and zero-shot CLIP base-to-novel, HeBA's transfer and few shots.

    Accuracies follow from the names, so that the same call writes the same tree.
    """
    for dataset in datasets:
        start = 60 + zlib.crc32(dataset.encode()) % 25
        for half, gain in (("train_base", 8), ("test_new", 3)):
            zero_shot = output / experiment(half, dataset, "ZeroshotCLIP", "vit_b16") / "seed1"
            write_results(zero_shot, start, **details("ZeroshotCLIP") | {"eval_only": True})
            for seed in range(1, seeds + 1):
                folder = output / experiment(half, dataset) / f"seed{seed}"
                accuracy = start + gain + 0.3 * seed
                write_results(folder, accuracy, **details("HeBA"))
                if half == "train_base":
                    write_log(folder / "log.txt", ours())
        for shots in (1, 4, 16):
            for seed in range(1, seeds + 1):
                folder = output / f"few_shot/{dataset}/shots_{shots}/HeBA/base2new/seed{seed}"
                write_results(folder, start + shots**0.5 + 0.2 * seed, **details("HeBA"))
        zero_shot = output / f"few_shot/{dataset}/shots_0/ZeroshotCLIP/vit_b16/seed1"
        write_results(zero_shot, start, **details("ZeroshotCLIP") | {"eval_only": True})
    for seed in range(1, seeds + 1):
        source = output / f"imagenet/HeBA/x2d_16shots/seed{seed}"
        write_results(source, 71 + 0.1 * seed, **details("HeBA"))
        for target in [*datasets, "imagenetv2", "imagenet_a"]:
            folder = output / f"evaluation/HeBA/x2d_16shots/{target}/seed{seed}"
            write_results(folder, 60 + 0.1 * seed, model_dir=str(source), **details("HeBA"))


def details(trainer: str) -> dict:
    """What a record tells of cost."""
    trained = trainer != "ZeroshotCLIP"
    phases = json.loads(written("base", "results.json"))["phases"]
    phases["build"] |= {"seconds": 5.0, "peak_memory": 2**30}
    phases["train"] |= {"seconds": 60.0, "peak_memory": 3 * 2**30}
    phases["test"] |= {"seconds": 4.5, "peak_memory": 2**31}
    if not trained:
        del phases["train"]
    return {"trainable_parameters": 87_158_016 if trained else 0, "phases": phases}
