"""Contract of the plugin: what stands outside dassl/ imports only names that Dassl 0.6.3 has too."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

DASSL = {
    "dassl.config": {"get_cfg_default"},
    "dassl.engine": {"TRAINER_REGISTRY", "TrainerX", "build_trainer"},
    "dassl.data": {"DataManager", "DatasetWrapper"},
    "dassl.data.datasets": {"DATASET_REGISTRY", "Datum", "DatasetBase"},
    "dassl.data.transforms": {"build_transform", "INTERPOLATION_MODES"},
    "dassl.optim": {"build_optimizer", "build_lr_scheduler"},
    "dassl.metrics": {"compute_accuracy"},
    "dassl.evaluation": {"EVALUATOR_REGISTRY", "EvaluatorBase", "build_evaluator", "Classification"},
    "dassl.utils": {
        *("setup_logger", "set_random_seed", "collect_env_info", "load_pretrained_weights"),
        *(
            "load_checkpoint",
            "listdir_nohidden",
            "mkdir_if_missing",
            "check_isfile",
            "read_json",
            "write_json",
        ),
    },
}
OURS = [
    ROOT / "train.py",
    *sorted((ROOT / "trainers").rglob("*.py")),
    *sorted((ROOT / "datasets").rglob("*.py")),
]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_names_of_dassl_063_are_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "dassl" for alias in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dassl":
            assert {alias.name for alias in node.names} <= DASSL[node.module]


@pytest.mark.parametrize("room", ["clip", "dassl"])
def test_clip_and_dassl_import_nothing_of_the_other_rooms(room: str) -> None:
    others = {"train", "parse_test_res", "trainers", "datasets", "clip", "dassl"} - {room}
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert not {name.split(".")[0] for name in names} & others, path


def test_resuming_and_recording_leave_the_same_settings_free() -> None:
    """Two lists, because neither room may import the other's."""
    from dassl.engine.resume import FREE_KEYS
    from trainers.common.record import NO_EFFECT

    assert FREE_KEYS == NO_EFFECT
