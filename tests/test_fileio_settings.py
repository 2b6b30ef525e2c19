"""What of a configuration decides a result."""

from typing import Any

import pytest

from fileio.settings import FREE_KEYS, deciding_settings, flatten, options_of_others
from runner.config import extend_cfg
from runner.record import relevant_settings


class Trainer:
    """A trainer whose options stand under another name than its own."""

    options_name = "COOP"


def config(name: str, **groups: Any) -> dict[str, Any]:
    return {"OUTPUT_DIR": "here", "OPTIM": {"LR": 0.1, "STEPS": []}, "TRAINER": {"NAME": name, **groups}}


def test_groups_of_keys_become_dotted_keys() -> None:
    flat = flatten(config("CoOp", COOP={"N_CTX": 16, "MORE": {"A": 1}}, Empty={}))
    assert flat == {
        "OUTPUT_DIR": "here",
        "OPTIM.LR": 0.1,
        "OPTIM.STEPS": [],
        "TRAINER.NAME": "CoOp",
        "TRAINER.COOP.N_CTX": 16,
        "TRAINER.COOP.MORE.A": 1,
    }


@pytest.mark.parametrize(
    ("name", "trainer", "others"),
    [
        ("CoOp", None, ["HeBA", "COOP2"]),  # by its name, in whatever case
        ("Mine", Trainer, ["HeBA", "COOP2"]),  # as the trainer says
        ("COOP2", Trainer, ["HeBA", "COOP2"]),
        ("Mine", None, []),  # none is known to be its own: each may be
        ("Mine", object, []),
    ],
)
def test_options_of_other_methods_are_told_by_the_trainer_or_its_name(
    name: str, trainer: type | None, others: list[str]
) -> None:
    given = config(name, COOP={"N_CTX": 16}, HeBA={"SCALE": 1.0}, COOP2={"N_CTX": 4})
    assert options_of_others(given, trainer) == others


def test_free_keys_and_options_of_other_methods_decide_nothing() -> None:
    given = config("CoOp", COOP={"N_CTX": 16}, HeBA={"SCALE": 1.0})
    expected = {"OPTIM.LR": 0.1, "OPTIM.STEPS": [], "TRAINER.NAME": "CoOp", "TRAINER.COOP.N_CTX": 16}
    assert deciding_settings(given, None) == expected


def test_every_free_key_is_declared_and_is_in_no_digest() -> None:
    """A key that was renamed would no longer be free, and nobody would notice."""
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.TRAINER.NAME = "HeBA"
    assert flatten(cfg).keys() >= FREE_KEYS
    assert not relevant_settings(cfg).keys() & FREE_KEYS
