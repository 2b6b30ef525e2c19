"""Zero-shot CLIP beside its published accuracies, and what is suspected where they differ."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clip import clip
from runner.calibrate import Comparison, compare, openai_digest, report
from runner.jobs import Job, Run

EUROSAT = {"eurosat": {"base": 56.48, "new": 64.05}}


def zero_shot(folder: Path, base: float, new: float, **changes: object) -> Job:
    """A finished zero-shot job on EuroSAT whose records say what they should, but for the changes."""
    runs = []
    for half, accuracy, total in (("base", base, 4200), ("new", new, 3900)):
        record = {
            **{"trainer": "ZeroshotCLIP", "subsample_classes": half, "accuracy": accuracy, "total": total},
            **{"num_classes": 5, "backbone": "ViT-B/16", "backbone_sha256": openai_digest("ViT-B/16")},
            "config": {
                "TRAINER.ZeroshotCLIP.TEMPLATES": [],
                "INPUT.PIXEL_MEAN": list(clip.PIXEL_MEAN),
                "INPUT.PIXEL_STD": list(clip.PIXEL_STD),
                "INPUT.INTERPOLATION": "bicubic",
            },
        }
        record |= changes | {"config": record["config"] | changes.get("config", {})}
        (folder / half).mkdir(parents=True)
        (folder / half / "results.json").write_text(json.dumps(record))
        runs.append(Run(folder / half, ()))
    return Job("ZeroshotCLIP eurosat seed1", "", "eurosat", tuple(runs))


def test_zero_shot_accuracies_near_the_published_ones_are_right(tmp_path: Path) -> None:
    compared = compare([zero_shot(tmp_path, 56.7, 64.0)], EUROSAT)
    assert [(c.dataset, c.is_right, c.suspects) for c in compared] == [("eurosat", True, [])]
    assert "+0.22" in report(compared)


@pytest.mark.parametrize(
    ("changes", "suspect"),
    [
        ({"total": 500}, "pictures or split: 1,000 test images instead of 8,100"),
        ({"num_classes": 4}, "split: 8 classes instead of 10"),
        ({"backbone": "mine.pt", "backbone_sha256": "0" * 64}, 'weights: "mine.pt" is not OpenAI'),
        ({"config": {"TRAINER.ZeroshotCLIP.TEMPLATES": ["a {}."]}}, "templates: ['a {}.']"),
        ({"config": {"INPUT.INTERPOLATION": "bilinear"}}, "pixels: "),
        ({}, "this data set's own"),
    ],
)
def test_a_wrong_accuracy_names_what_the_records_show(
    tmp_path: Path, changes: dict[str, object], suspect: str
) -> None:
    compared = compare([zero_shot(tmp_path, 56.48, 60.0, **changes)], EUROSAT)
    assert not compared[0].is_right
    assert len(compared[0].suspects) == 1
    assert suspect in compared[0].suspects[0]
    assert "WRONG" in report(compared)
    assert f"suspect {compared[0].suspects[0]}" in report(compared)


def test_what_all_data_sets_share_is_suspected_where_most_are_wrong(tmp_path: Path) -> None:
    jobs = [replace(zero_shot(tmp_path / name, 50.0, 60.0), dataset=name) for name in ("eurosat", "copy")]
    published = {name: EUROSAT["eurosat"] for name in ("eurosat", "copy")}
    suspects = [comparison.suspects[-1] for comparison in compare(jobs, published)]
    assert suspects == ["what all data sets share: weights, tokens, the images' preprocessing"] * 2


@pytest.mark.parametrize("damaged", ["[1]", '{"accuracy": true}', "[" * 100_000])
def test_a_job_with_a_damaged_record_is_not_compared(tmp_path: Path, damaged: str) -> None:
    job = zero_shot(tmp_path, 56.48, 64.05)
    (tmp_path / "new/results.json").write_text(damaged)
    assert compare([job], EUROSAT) == []


def test_the_difference_is_the_larger_of_both_halves() -> None:
    comparison = Comparison("dtd", {"base": 50.0, "new": 60.0}, {"base": 50.1, "new": 60.31})
    assert comparison.difference == pytest.approx(0.31)
    assert not comparison.is_right
