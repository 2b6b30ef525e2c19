"""Training and evaluation on the original Dassl, which ``DASSL_PATH`` in the environment names.

README.md says what today's Python packages need changed in it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

METHODS = {
    "HeBA": ["TRAINER.HeBA.ADAPTER_END", "-1", "TRAINER.HeBA.PREC", "fp32"],
    "LwEIB": ["TRAINER.LWEIB.ADAPTER_END", "-1", "TRAINER.LWEIB.PREC", "fp32"],
    "MaPLe": ["TRAINER.MAPLE.PROMPT_DEPTH", "3", "TRAINER.MAPLE.PREC", "fp32"],
    "CoOp": ["TRAINER.COOP.PREC", "fp32"],
}


@pytest.fixture(scope="module")
def original() -> str:
    path = os.environ.get("DASSL_PATH")
    if not path:
        pytest.skip("DASSL_PATH is not set: the original Dassl is not at hand")
    return str(Path(path).resolve())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_on_base_classes_and_is_evaluated_on_novel_ones(
    method: str, original: str, toy_data: Path, tiny_clip_path: Path, tmp_path: Path
) -> None:
    common = [
        *("--root", str(toy_data), "--seed", "1", "--trainer", method),
        *("--dataset-config-file", str(ROOT / "configs/datasets/caltech101.yaml")),
        *("--config-file", str(ROOT / f"configs/trainers/{method}/base2new.yaml")),
    ]
    options = [
        *("MODEL.BACKBONE.NAME", str(tiny_clip_path), "MODEL.BACKBONE.QUICK_GELU", "True"),
        *("DATALOADER.NUM_WORKERS", "0", "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "DATASET.NUM_SHOTS", "4"),
        *("OPTIM.MAX_EPOCH", "2", "TRAIN.PRINT_FREQ", "1", "USE_CUDA", "False", *METHODS[method]),
        "DATASET.SUBSAMPLE_CLASSES",
    ]
    evaluation = ["--eval-only", "--model-dir", "base", "--load-epoch", "last"]
    words = [*common, "--output-dir", "base", *options, "base", "--then"]
    words += [*common, "--output-dir", "novel", *evaluation, *options, "new"]
    environment = os.environ | {"DASSL_PATH": original, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-v", str(ROOT / "train.py"), *words],  # -v: which file each module is from
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr.splitlines()[-20:]
    for module in ("engine/trainer", "data/data_manager", "evaluation/evaluator", "utils/logger"):
        assert f"{original}/dassl/{module}.py" in done.stderr
    assert f"{ROOT}/dassl/" not in done.stderr

    for part, classes in (("base", "base"), ("novel", "new")):
        record = json.loads((tmp_path / part / "results.json").read_text())
        assert record["trainer"] == method
        assert record["subsample_classes"] == classes
        assert set(record["phases"]) == {"build", "test"} | ({"train"} if part == "base" else set())
        log = (tmp_path / part / "log.txt").read_text()
        assert log in done.stdout
        assert f"* accuracy: {record['accuracy']:.1f}%" in log  # printed by Dassl
        assert "Building custom CLIP" in log  # logged by our trainer
    base = (tmp_path / "base" / "log.txt").read_text()
    assert "epoch [2/2] batch [3/3]" in base
    assert "Predict with it: " in base
    (checkpoint,) = (tmp_path / "base").glob("*/model.pth.tar-2")
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]  # with warm-up a pickled schedule, too
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_dassl_that_does_not_import_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "dassl" / "engine").mkdir(parents=True)
    (tmp_path / "dassl" / "__init__.py").touch()
    (tmp_path / "dassl" / "engine" / "__init__.py").write_text("import no_such_package")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--trainer", "HeBA"],
        env=os.environ | {"DASSL_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f'the Dassl in "{tmp_path}" (from DASSL_PATH) cannot be imported' in line
    assert "no_such_package" in line
    assert "scripts/setup.sh" not in line  # which installs what ours needs
