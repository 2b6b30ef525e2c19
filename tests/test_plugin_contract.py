"""Contract of the plugin: what stands outside dassl/ imports only names that Dassl 0.6.3 has too."""

import ast
import sys
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
    *sorted((ROOT / "adapt").rglob("*.py")),
    *sorted((ROOT / "runner").rglob("*.py")),
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


# Packages and scripts of this repository: fileio is below all of them, clip and dassl stand on it alone.
ROOMS = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {path.stem for path in ROOT.glob("*.py")}
SERVES_FILEIO = {*sys.stdlib_module_names, "fileio", "requests", "tqdm", "torch", "yaml"}


@pytest.mark.parametrize("path", sorted((ROOT / "fileio").glob("*.py")), ids=lambda path: path.name)
def test_fileio_imports_nothing_of_the_other_rooms_and_torch_only_where_it_is_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        rooms = {name.split(".")[0] for name in names}
        assert rooms <= SERVES_FILEIO
        assert "torch" not in rooms or node not in tree.body


@pytest.mark.parametrize("room", ["clip", "dassl"])
def test_clip_and_dassl_import_nothing_of_the_other_rooms_but_fileio(room: str) -> None:
    others = ROOMS - {room, "fileio"}
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert not {name.split(".")[0] for name in names} & others, path
