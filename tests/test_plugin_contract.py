"""Contract of the plugin: what stands outside dassl/ imports only names that Dassl 0.6.3 has too."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

DASSL = {
    "dassl.config": {"get_cfg_default"},
    "dassl.engine": {"TRAINER_REGISTRY", "TrainerX", "build_trainer"},
    "dassl.data": {"DataManager", "DatasetWrapper"},
    "dassl.data.datasets": {"DATASET_REGISTRY", "Datum", "DatasetBase", "build_dataset"},
    "dassl.data.transforms": {"build_transform", "INTERPOLATION_MODES"},
    "dassl.optim": {"build_optimizer", "build_lr_scheduler"},
    "dassl.metrics": {"compute_accuracy"},
    "dassl.evaluation": {"EVALUATOR_REGISTRY", "EvaluatorBase", "build_evaluator", "Classification"},
    "dassl.utils": {
        *("setup_logger", "set_random_seed", "collect_env_info", "load_pretrained_weights"),
        *("load_checkpoint", "listdir_nohidden", "mkdir_if_missing", "check_isfile"),
        *("read_json", "write_json"),
    },
}
# Dassl 0.6.3 has these too, but no trainer or data set of the family imports them: benchmarks/ alone may, for
# what it measures.
FOR_BENCHMARKS = {
    "benchmarks/loader.py": {
        "dassl.data.data_manager": {"build_data_loader"},
        "dassl.utils": {"read_image"},
    },
}
# The command lines, and every folder with Python files but dassl/ itself and the tests.
FOLDERS = [folder for folder in sorted(ROOT.iterdir()) if any(folder.glob("*.py"))]
OURS = sorted(ROOT.glob("*.py"))
OURS += [
    path
    for folder in FOLDERS
    if folder.name not in ("dassl", "tests")
    for path in sorted(folder.rglob("*.py"))
]


def names_of_dassl(path: Path) -> dict[str, set[str]]:
    """What a file imports from dassl's modules, in functions too; a module as a whole under ""."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "dassl":
                    found.setdefault(alias.name, set()).add("")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dassl":
            found.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_names_of_dassl_063_are_imported(path: Path) -> None:
    allowed = FOR_BENCHMARKS.get(str(path.relative_to(ROOT)), {})
    for module, names in names_of_dassl(path).items():
        assert names <= DASSL.get(module, set()) | allowed.get(module, set()), module


@pytest.mark.parametrize("file", FOR_BENCHMARKS)
def test_what_benchmarks_may_import_is_still_imported(file: str) -> None:
    imported = names_of_dassl(ROOT / file)
    for module, names in FOR_BENCHMARKS[file].items():
        assert names <= imported[module]
