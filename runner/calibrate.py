"""Zero-shot CLIP against its published accuracies: are weights, pictures, splits, templates and tokens right?

Nothing is trained, so any difference beyond rounding has a cause here. The published numbers are CoCoOp's and
were computed in float16; float32 moves an accuracy by less than 0.1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from reporting.published import AVERAGE, BACKBONE, load
from reporting.read import read_results
from runner.jobs import Job

TOLERANCE = 0.3  # points
# "a photo of a cat." by CLIP's vocabulary, between start and end
SENTENCE, TOKENS = "a photo of a cat.", [49406, 320, 1125, 539, 320, 2368, 269, 49407]


@dataclass
class Comparison:
    """One data set: accuracies in percent here and as published, and what may be wrong if they differ."""

    dataset: str
    here: dict[str, float]  # by half, base and new
    published: dict[str, float]
    suspects: list[str] = field(default_factory=list)

    @property
    def difference(self) -> float:
        """The larger of both halves' differences."""
        return max(abs(self.here[half] - self.published[half]) for half in self.here)

    @property
    def is_right(self) -> bool:
        return self.difference <= TOLERANCE


def published_zero_shot() -> dict[str, dict[str, float]]:
    """The published accuracies on both halves by data set."""
    rows = load("base2new")["CLIP"]
    return {
        dataset: {"base": row["Base"].value, "new": row["Novel"].value}
        for dataset, row in rows.items()
        if dataset != AVERAGE
    }


def compare(jobs: Sequence[Job], published: dict[str, dict[str, float]]) -> list[Comparison]:
    """Compares the finished jobs whose data sets have published numbers, and looks for what is wrong."""
    compared = []
    for job in jobs:
        if job.dataset not in published or not all(record_path(run).is_file() for run in job.runs):
            continue
        records = [read_results(record_path(run), "accuracy").record for run in job.runs]
        if not all(records):  # damaged; the run has failed and says why
            continue
        here = {record["subsample_classes"]: record["accuracy"] for record in records}
        comparison = Comparison(job.dataset, here, published[job.dataset])
        if not comparison.is_right:
            comparison.suspects = evidence(job.dataset, records)
        compared.append(comparison)
    wrong = [comparison for comparison in compared if not comparison.is_right]
    for comparison in wrong:
        if not comparison.suspects:
            comparison.suspects = guesses(len(wrong), len(compared))
    return compared


def record_path(run: Any) -> Path:
    return run.folder / "results.json"


def evidence(dataset: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """What the records show to be otherwise than it should be."""
    from datasets.preparation.sources import load_sources

    found = []
    known = {source.config: source for source in load_sources()}.get(dataset)
    images, classes = (sum(record[key] for record in records) for key in ("total", "num_classes"))
    if known and known.counts.get("test", known.counts.get("val")) != images:
        number = known.counts.get("test", known.counts.get("val"))
        found.append(f"pictures or split: {images:,} test images instead of {number:,}")
    if known and known.classes != classes:
        found.append(f"split: {classes} classes instead of {known.classes}")
    record = records[0]
    digest = openai_digest(BACKBONE)
    if record["backbone_sha256"] != digest:
        found.append(f'weights: "{record["backbone"]}" is not OpenAI\'s {BACKBONE} (SHA-256 {digest[:12]}…)')
    config = record["config"]
    if templates := config.get(f"TRAINER.{record['trainer']}.TEMPLATES"):
        found.append(f"templates: {templates} instead of CoOp's")
    if not usual_pixels(config):
        found.append("pixels: INPUT.PIXEL_MEAN, PIXEL_STD or INTERPOLATION are not CLIP's")
    if (tokens := tokenized(SENTENCE)) != TOKENS:
        found.append(f'tokens: "{SENTENCE}" gives {tokens} instead of {TOKENS}')
    return found


def guesses(wrong: int, compared: int) -> list[str]:
    """Where to look when the records show nothing: at what all data sets share, or at this one's own."""
    if compared > 1 and wrong > compared / 2:
        return ["what all data sets share: weights, tokens, the images' preprocessing"]
    return ["what is this data set's own: its split (class names, their order), its template, its pictures"]


def openai_digest(name: str) -> str:
    """SHA-256 of OpenAI's weights of that name."""
    from clip import clip

    return re.search(r"[0-9a-f]{64}", clip._MODELS[name])[0]


def usual_pixels(config: dict[str, Any]) -> bool:
    """Whether images are resized and normalised as CLIP wants them."""
    from clip import clip

    mean, std = config["INPUT.PIXEL_MEAN"], config["INPUT.PIXEL_STD"]
    return (tuple(mean), tuple(std), config["INPUT.INTERPOLATION"]) == (
        clip.PIXEL_MEAN,
        clip.PIXEL_STD,
        "bicubic",
    )


def tokenized(sentence: str) -> list[int]:
    from clip import clip

    return [token for token in clip.tokenize(sentence)[0].tolist() if token]


def report(compared: Sequence[Comparison]) -> str:
    """The table, and below it the suspects of each data set that is off."""
    rows = [
        [
            comparison.dataset,
            *(
                number
                for half in ("base", "new")
                for number in (
                    f"{comparison.here[half]:.2f}",
                    f"{comparison.published[half]:.2f}",
                    f"{comparison.here[half] - comparison.published[half]:+.2f}",
                )
            ),
            "right" if comparison.is_right else "WRONG",
        ]
        for comparison in compared
    ]
    headers = ["zero-shot CLIP", "Base", "published", "diff", "Novel", "published", "diff", ""]
    lines = [tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 6, "left"))]
    for comparison in compared:
        lines += [f"{comparison.dataset}: suspect {suspect}" for suspect in comparison.suspects]
    return "\n".join(lines)
