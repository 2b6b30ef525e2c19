"""How long each protocol takes: measured steps times the sizes of the data sets, and what bounds it.

    python benchmarks/table1.py --side bf16 --workers 8

Measured here: a training step with few and with many prompts, text features, evaluation of a batch, decoding
and augmenting an image. A step's time is linear between the two numbers of prompts. Loading goes on beside
the computing, so only what it takes longer counts. What a run needs once (start, weights, checkpoint) comes
on top as ``--start`` seconds, assumed. Cross-dataset training adapts blocks 9 to 12 alone and is quicker.
"""

import argparse
import csv
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common
from benchmarks.loader import make_images, seconds, training_loader
from benchmarks.sides import SIDES
from command_line import natural

FEW, MANY = 24, 96  # prompts of the two measured steps; 96 = 16 images, 5 negative classes each
SHOTS, IMAGES, EPOCHS, NEGATIVES, DESCRIPTIONS = 16, 16, 30, 5, 20  # configs/trainers/HeBA/base2new.yaml
X2D_IMAGES, X2D_EPOCHS = 64, 10  # configs/trainers/HeBA/x2d.yaml
SEEDS = 3


@dataclass(frozen=True)
class Rates:
    """Measured seconds.

    Attributes:
        few: of a step with ``FEW`` prompts and ``IMAGES`` images.
        many: of a step with ``MANY`` prompts.
        prompt: of one prompt's text feature.
        image: of evaluating one image.
        load: of reading one image, all workers together; decoded images are not kept here.
        start: of starting one run.
    """

    few: float
    many: float
    prompt: float
    image: float
    load: float
    start: float

    def step(self, classes: int, images: int = IMAGES) -> float:
        """A step on ``images`` images of ``classes`` classes: its image part grows with the images."""
        prompts = min(classes, images * (1 + NEGATIVES)) if classes > images else classes
        slope = (self.many - self.few) / (MANY - FEW)
        image_part = self.few - slope * FEW
        return image_part * images / IMAGES + slope * prompts


@dataclass(frozen=True)
class Run:
    """Seconds of one process by part, and the images it reads."""

    train: float = 0.0
    text: float = 0.0
    evaluate: float = 0.0
    train_load: float = 0.0
    test_load: float = 0.0
    start: float = 0.0

    @property
    def parts(self) -> dict[str, float]:
        """What the wall clock goes to."""
        return {
            "training steps": self.train,
            "text features": self.text,
            "evaluating images": self.evaluate,
            "waiting for images": max(0, self.train_load - self.train)
            + max(0, self.test_load - self.evaluate),
            "starting": self.start,
        }


def training(rates: Rates, classes: int, test: float, images: int = IMAGES, epochs: int = EPOCHS) -> Run:
    """Few-shot training on ``classes`` classes, then evaluation of ``test`` images of these classes."""
    steps = classes * SHOTS // images * epochs
    measured = evaluation(rates, classes, test)
    return Run(
        steps * rates.step(classes, images),
        measured.text,
        measured.evaluate,
        steps * images * rates.load,
        measured.test_load,
        rates.start,
    )


def evaluation(rates: Rates, classes: int, test: float, scales: int = 1) -> Run:
    """Evaluation of ``test`` images at ``scales`` adapter scales."""
    return Run(
        text=scales * classes * DESCRIPTIONS * rates.prompt,
        evaluate=scales * test * rates.image,
        test_load=scales * test * rates.load,
        start=rates.start,
    )


def protocols(rates: Rates, datasets: dict[str, dict[str, int]]) -> dict[str, list[Run]]:
    """The runs of each protocol. Test images of base and novel classes are taken by the classes' shares."""
    table = {name: row for name, row in datasets.items() if row["base_classes"]}
    made: dict[str, list[Run]] = {"base-to-novel": [], "cross-dataset": [], "domain generalisation": []}
    for row in table.values():
        base, novel = row["base_classes"], row["new_classes"]
        share = base / (base + novel)
        made["base-to-novel"] += SEEDS * [
            training(rates, base, share * row["test"]),
            evaluation(rates, novel, (1 - share) * row["test"], scales=2),
        ]
    source = datasets["ImageNet"]
    train = training(rates, source["classes"], source["test"], X2D_IMAGES, X2D_EPOCHS)
    for name, targets in {
        "cross-dataset": [name for name in table if name != "ImageNet"],
        "domain generalisation": [name for name in datasets if name not in table],
    }.items():
        runs = [
            evaluation(rates, datasets[target]["classes"], datasets[target]["test"]) for target in targets
        ]
        made[name] = SEEDS * [train, *runs]
    return made


def read_datasets() -> dict[str, dict[str, int]]:
    """Numbers of classes and images by data set."""
    with open(Path(__file__).parent / "data" / "datasets.csv", encoding="utf-8") as file:
        rows = {row.pop("dataset"): row for row in csv.DictReader(file)}
    return {
        name: {
            key: int(value) if value else 0
            for key, value in row.items()
            if key not in ("folder", "split_file")
        }
        for name, row in rows.items()
    }


def measure(args: argparse.Namespace) -> tuple[Rates, int]:
    """The rates of one side, and its threads."""
    args.sides = [args.side]

    def took(job: str, **sizes: int) -> common.Measured:
        return common.compare(common.work(args, job, **sizes), args)[0]

    few = took("step", classes=FEW, images=IMAGES)
    many = took("step", classes=MANY, images=IMAGES)
    text = took("text", classes=25, descriptions=DESCRIPTIONS)
    images = 128 if args.device == "cuda" else 32
    evaluated = took("eval", images=images)
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), 64, (500, 375))
        loader = training_loader(sorted(Path(folder).iterdir()), args.workers, IMAGES)
        for _ in loader:
            pass
        load = statistics.median(seconds(lambda: [None for _ in loader]) for _ in range(args.rounds)) / 64
    prompt = text.median / (25 * DESCRIPTIONS)
    return Rates(few.median, many.median, prompt, evaluated.median / images, load, args.start), few.threads


def main() -> None:
    parser = common.parser(__doc__, rounds=3, sides=False)
    parser.add_argument("--side", default="bf16", choices=SIDES, help="which code, and its precision")
    parser.add_argument("--workers", type=natural, default=8, help="worker processes of the loader")
    parser.add_argument(
        "--start", type=float, default=15.0, help="seconds that a run takes to start and to save"
    )
    args = parser.parse_args()
    rates, threads = measure(args)
    table = []
    for name, runs in protocols(rates, read_datasets()).items():
        parts = {part: sum(run.parts[part] for run in runs) for part in runs[0].parts}
        total = sum(parts.values())
        bound = max(parts, key=parts.get)
        table.append(
            {
                "protocol": f"{name}, {SEEDS} seeds",
                "runs": len(runs),
                "hours": f"{total / 3600:.2f}",
                **{f"{part}, h": f"{taken / 3600:.2f}" for part, taken in parts.items()},
                "bound by": f"{bound} ({parts[bound] / total:.0%})",
            }
        )
    notes = [
        f"Measured, {args.side}: step {rates.few:.4g} s with {FEW} prompts, {rates.many:.4g} s with {MANY}; "
        f"{1e3 * rates.prompt:.3g} ms a prompt, {1e3 * rates.image:.3g} ms an image, "
        f"{1e3 * rates.load:.3g} ms to load it, {args.workers} workers; a start {rates.start:g} s, assumed",
        common.machine(args.device, threads),
    ]
    common.report(f"Projected wall clock, {args.backbone}", table, notes, vars(rates), args)


if __name__ == "__main__":
    main()
