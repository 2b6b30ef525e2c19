"""Finished runs without any training: records and logs in the folders where the family's scripts put them."""

import json
import zlib
from pathlib import Path

BASE2NEW = "base2new/{half}/{dataset}/shots_{shots}/{trainer}/{config}"


def experiment(
    half: str, dataset: str, trainer: str = "HeBA", config: str = "base2new", shots: int = 16
) -> str:
    """The folder of an experiment's seeds."""
    return BASE2NEW.format(half=half, dataset=dataset, trainer=trainer, config=config, shots=shots)


def write_results(folder: Path, accuracy: float, **more) -> None:
    """A finished run of ours; which classes it is of follows from the folder unless told."""
    new = "test_new" in folder.parts
    base = "train_base" in folder.parts
    content = {
        "schema": 2,
        "accuracy": accuracy,
        "eval_only": new or "evaluation" in folder.parts,
        "subsample_classes": "new" if new else "base" if base else "all",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content | more))


def write_log(path: Path, body: str, eval_only: bool | None = False) -> None:
    """A log as Dassl writes it, cut down to what tells a run's kind, and the body."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "" if eval_only is None else f"** Arguments **\neval_only: {eval_only}\n"
    path.write_text(head + body)


def result(accuracy: str, end: str = "Finish training\n") -> str:
    """The last lines of a log."""
    lines = ["=> result", "* total: 8,041", f"* accuracy: {accuracy}%", "* error: 1.0%"]
    return "epoch [1/1] batch [1/1] loss 1.0\n" + end + "\n".join(lines) + "\n"


def steps(epochs: int, first: int = 1) -> str:
    """Dassl's lines of training; the mean loss of epoch e is 2/e."""
    return "".join(
        f"epoch [{epoch}/{epochs}] batch [{batch}/6] time 0.21 (0.21) data 0.03 (0.03) "
        f"loss {2 / epoch + 1:.4f} ({2 / epoch:.4f}) n_cls 6.0000 (6.0000) lr 7.5000e-03 eta 0:00:03\n"
        for epoch in range(first, epochs + 1)
        for batch in (5, 6)
    )


def write_protocols(output: Path, datasets: list[str], seeds: int = 3) -> None:
    """Runs of all protocols: HeBA and zero-shot CLIP base-to-novel, HeBA's transfer and few shots.

    Accuracies follow from the names, so that the same call writes the same tree.
    """
    for dataset in datasets:
        start = 60 + zlib.crc32(dataset.encode()) % 25
        for half, gain in (("train_base", 8), ("test_new", 3)):
            zero_shot = output / experiment(half, dataset, "ZeroshotCLIP", "vit_b16") / "seed1"
            write_results(zero_shot, start, **details("ZeroshotCLIP", start) | {"eval_only": True})
            for seed in range(1, seeds + 1):
                folder = output / experiment(half, dataset) / f"seed{seed}"
                accuracy = start + gain + 0.3 * seed
                write_results(folder, accuracy, **details("HeBA", accuracy))
                if half == "train_base":
                    write_log(folder / "log.txt", "VLM-HeBA: a run is finished\n" + steps(30) + result("1.0"))
        for shots in (1, 4, 16):
            for seed in range(1, seeds + 1):
                folder = output / f"few_shot/{dataset}/shots_{shots}/HeBA/base2new/seed{seed}"
                write_results(folder, start + shots**0.5 + 0.2 * seed, **details("HeBA", start, shots))
        write_results(
            output / f"few_shot/{dataset}/shots_0/ZeroshotCLIP/vit_b16/seed1", start, eval_only=True
        )
    for seed in range(1, seeds + 1):
        source = output / f"imagenet/HeBA/x2d_16shots/seed{seed}"
        write_results(source, 71 + 0.1 * seed, **details("HeBA", 71))
        for target in [*datasets, "imagenetv2", "imagenet_a"]:
            folder = output / f"evaluation/HeBA/x2d_16shots/{target}/seed{seed}"
            write_results(folder, 60 + 0.1 * seed, model_dir=str(source), **details("HeBA", 60))


def details(trainer: str, accuracy: float, shots: int = 16) -> dict:
    """The parts of a record that tables and pictures use; the classes spread around the accuracy."""
    trained = trainer != "ZeroshotCLIP"
    step = 7 if trained else 4  # other classes are the hard ones
    classes = [
        {
            "label": n,
            "classname": f"class {n}",
            "correct": min(100, round(accuracy) + (step * n) % 11 - 5),
            "total": 100,
        }
        for n in range(10)
    ]
    phases = {"build": {"seconds": 5.0, "peak_memory": 2**30, "peak_gpu_memory": None}}
    phases |= (
        {"train": {"seconds": 60.0, "peak_memory": 3 * 2**30, "peak_gpu_memory": None}} if trained else {}
    )
    phases |= {"test": {"seconds": 4.5, "peak_memory": 2**31, "peak_gpu_memory": None}}
    return {
        "trainer": trainer,
        "shots": shots,
        "backbone": "ViT-B/16",
        "trainable_parameters": 87_158_016 if trained else 0,
        "phases": phases,
        "per_class": classes,
        "command": ["python", "train.py", "--trainer", trainer, "DATASET.NUM_SHOTS", str(shots)],
    }
