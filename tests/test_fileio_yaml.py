"""A configuration is data: no code, no bombs, nothing said twice; whatever the file is called."""

import argparse
import re
from pathlib import Path

import pytest
import torch
import yaml

import train
from dassl.config import get_cfg_default
from dassl.engine.resume import config_differences
from fileio.yaml_text import parse_yaml
from runner.config import parse_cfg
from runner.folder import recorded_in_checkpoint
from tests.conftest import ROOT

LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD = [
    ("!!python/object/apply:os.mkdir [evil]", "could not determine a constructor"),
    ("OPTIM: !!python/name:os.system", "could not determine a constructor"),
    (LAUGHS, "more than 100,000 values"),
    ("a: &a [*a]", "more than 100,000 values"),
    ("a: " + "[" * 1500, "nested too deeply"),
    ("OPTIM:\n  LR: 1.0\nOPTIM:\n  MAX_EPOCH: 3", 'the key "OPTIM" stands twice'),
    ("OPTIM:\n  LR: 1.0\n  LR: 2.0", 'the key "LR" stands twice in one group .*line 3'),
    ("- a\n- b", "it holds a list, not KEY: value lines"),
    ("just words", "it holds a str"),
    ("a: 1\n---\nb: 2", "expected a single document"),
    ("a: \x00", "special characters"),
    ("? [a, b]\n: c", "unhashable"),
    ("a: [", "expected the node content"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_no_plain_configuration_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        parse_yaml(text)
    assert "\n" not in str(refused.value)


def test_plain_texts_mean_what_they_mean_to_yaml() -> None:
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        text = path.read_text("utf-8")
        assert parse_yaml(text) == (yaml.safe_load(text) or {})
    assert parse_yaml("") == {}
    assert parse_yaml("\ufeffa: 1") == {"a": 1}
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {x: 1}, y: 2}") == {
        **{"a": [1, 2], "b": [1, 2]},
        "c": {"x": 1, "y": 2},
    }


CODE = "open('evil-was-here', 'w')\nfrom yacs.config import CfgNode\ncfg = CfgNode()\n"


@pytest.mark.parametrize("flag", ["--config-file", "--dataset-config-file"])
def test_a_python_file_given_as_configuration_is_not_run(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(CODE)
    assert train.main([flag, "mine.py", "--trainer", "HeBA"]) == 2
    assert f'{flag} "mine.py" is not a YAML configuration' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"OPTIM:\n  NAME: \xff\xfe", "codec can't decode"),
        (b"OPTIM:\n  LR: 2024-01-01", "LR with value .* is not a valid type"),
        (b"OPTIM:\n  LR: 1.0\n  LR: 2.0", '"LR" stands twice'),
    ],
)
def test_a_bad_configuration_file_is_one_line(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert train.main(["--config-file", str(path), "--trainer", "HeBA"]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert len(error.splitlines()) == 1
    assert re.search(said, error)


def test_texts_inside_our_own_files_are_read_by_the_same_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="more than 100,000 values"):
        config_differences(LAUGHS, get_cfg_default())
    with pytest.raises(ValueError, match="stands twice"):
        parse_cfg("a: 1\na: 2")
    folder = tmp_path / "adapter_learner"
    folder.mkdir()
    torch.save({"state_dict": {}, "epoch": 1, "cfg": LAUGHS}, folder / "model.pth.tar-1")
    args = argparse.Namespace(eval_only=True, model_dir=str(tmp_path), load_epoch=1)
    with pytest.raises(ValueError, match=r'the configuration in ".*model.pth.tar-1" cannot be read'):
        recorded_in_checkpoint(args)
