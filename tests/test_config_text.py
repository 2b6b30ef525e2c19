"""Values of text keys are the text that was typed, also where Python or YAML would read something else."""

from functools import reduce
from pathlib import Path

import pytest
from yacs.config import CfgNode

import train
from dassl.config import get_cfg_default
from runner.config import extend_cfg, merge_file, merge_pairs, setup_cfg
from tests.conftest import ROOT

WORDS = [
    "2024",
    "1e3",
    "1_000",
    "007",
    "0x1f",
    "None",
    "true",
    "True",
    "{}",
    "[a",
    "(1, 2)",
    "a.b",
    "it's",
    "---",
]


def text_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            keys += text_keys(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            keys.append(f"{prefix}{key}")
    return keys


def value_of(cfg: CfgNode, key: str) -> object:
    return reduce(getattr, key.split("."), cfg)


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    return cfg


@pytest.mark.parametrize("word", WORDS)
def test_every_text_key_takes_what_is_typed(cfg: CfgNode, word: str) -> None:
    keys = text_keys(cfg)
    assert {"DATASET.ROOT", "OUTPUT_DIR", "TRAINER.HeBA.PREC", "MODEL.INIT_WEIGHTS"} <= set(keys)
    for key in keys:
        merge_pairs(cfg, [key, word])
        assert value_of(cfg, key) == word


@pytest.mark.parametrize("typed", ["'{}'", '"{}"', "\"'{}'\""])
def test_quotes_around_a_text_are_taken_off(cfg: CfgNode, typed: str) -> None:
    merge_pairs(cfg, ["DATASET.TEMPLATE", typed])
    assert cfg.DATASET.TEMPLATE == "{}"


@pytest.mark.parametrize("typed", ["'{}' 'b'", "'a' # it", '"', "it's {}"])
def test_quotes_that_belong_to_a_text_stay(cfg: CfgNode, typed: str) -> None:
    merge_pairs(cfg, ["DATASET.TEMPLATE", typed])
    assert typed == cfg.DATASET.TEMPLATE


@pytest.mark.parametrize(
    ("flag", "key"),
    [
        ("--root", "DATASET.ROOT"),
        ("--output-dir", "OUTPUT_DIR"),
        ("--resume", "RESUME"),
        ("--head", "MODEL.HEAD.NAME"),
    ],
)
@pytest.mark.parametrize("word", ["2024", "20261125", "1e3", "None", "{}", "C:\\new"])
def test_flags_of_text_take_what_is_typed(flag: str, key: str, word: str) -> None:
    file = str(ROOT / "configs" / "trainers" / "ZeroshotCLIP" / "vit_b16.yaml")
    flags = ["--trainer", "ZeroshotCLIP", "--config-file", file, flag, word]
    assert value_of(setup_cfg(train.parse_args(flags)), key) == word


def test_lists_of_words_from_flags_stay_words() -> None:
    file = str(ROOT / "configs" / "trainers" / "ZeroshotCLIP" / "vit_b16.yaml")
    flags = [
        "--trainer",
        "ZeroshotCLIP",
        "--config-file",
        file,
        "--source-domains",
        "2024",
        "None",
        "--seed",
        "3",
    ]
    cfg = setup_cfg(train.parse_args(flags))
    assert cfg.DATASET.SOURCE_DOMAINS == ("2024", "None")
    assert cfg.SEED == 3


def test_text_keys_in_yaml_take_the_text_of_their_value(cfg: CfgNode, tmp_path: Path) -> None:
    values = {"2024": "2024", "1.50": "1.50", "on": "on", "2024-11-25": "2024-11-25", "0o17": "0o17"}
    values |= {"1e3": "1e3", "None": "None", '"{}"': "{}", "'2024'": "2024", "\"'{}'\"": "{}"}
    for typed, text in values.items():
        path = tmp_path / "mine.yaml"
        path.write_text(f"OUTPUT_DIR: {typed}\nDATASET:\n  ROOT: {typed}\n  NUM_SHOTS: 4\n")
        merge_file(cfg, "--config-file", str(path))
        assert (text, text, 4) == (cfg.OUTPUT_DIR, cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS)
    path.write_text("OUTPUT_DIR:\n")
    with pytest.raises(ValueError, match="OUTPUT_DIR is None; give it a value"):
        merge_file(cfg, "--config-file", str(path))


def test_other_keys_are_read_as_before(cfg: CfgNode, tmp_path: Path) -> None:
    pairs = {
        "MODEL.BACKBONE.QUICK_GELU": ("True", True),
        "OPTIM.LR": ("1", 1.0),
        "OPTIM.MAX_EPOCH": ("3", 3),
        "INPUT.SIZE": ("(32, 32)", (32, 32)),
        "USE_CUDA": ("false", False),
        "TRAINER.HeBA.TEMPLATES": ("('{}', '2024')", ("{}", "2024")),
    }
    declared = cfg.clone()
    for key, (typed, value) in pairs.items():
        merge_pairs(cfg, [key, typed], declared)
        assert value_of(cfg, key) == value
        assert type(value_of(cfg, key)) is type(value)
    merge_pairs(cfg, ["MODEL.BACKBONE.QUICK_GELU", "None"], declared)
    assert cfg.MODEL.BACKBONE.QUICK_GELU is None
    (tmp_path / "mine.yaml").write_text("OPTIM:\n  LR: 1e-5\nTRAINER:\n  HeBA:\n    TEMPLATES: ['{}']\n")
    merge_file(cfg, "--config-file", str(tmp_path / "mine.yaml"))
    assert cfg.OPTIM.LR == 1e-5
    assert cfg.TRAINER.HeBA.TEMPLATES == ("{}",)


@pytest.mark.parametrize("text", ["[" * 100_000, "- 1\n", "3\n", "{[]: 1}\n"])
def test_yaml_that_is_no_configuration_is_named(cfg: CfgNode, tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match="mine.yaml.*is not a YAML configuration"):
        merge_file(cfg, "--config-file", str(tmp_path / "mine.yaml"))
