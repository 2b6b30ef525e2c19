"""reproduce.py looks for mistakes before the first job starts, and lists all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

import reproduce
from clip import clip
from runner import names, preflight
from runner.jobs import PROTOCOLS, Plan, expand
from runner.preflight import Checks

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(
    toy_data: Path,
    toy_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Calls reproduce.py base2new for the toy data; returns its status and what stderr says.

    Nothing is started: a call without a mistake ends with status 0 where jobs would begin.
    """
    monkeypatch.setattr(reproduce, "run", lambda *args: 0)

    def run(*flags: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
        words = ["base2new", "--datasets", "caltech101", "--root", str(toy_data), "--output", str(tmp_path)]
        status = reproduce.main([*words, *flags, "--", *toy_flags, *options])
        return status, capsys.readouterr().err

    return run


def test_a_call_without_mistakes_starts(call: Call) -> None:
    assert call() == (0, "")


def test_all_mistakes_are_listed_at_once_and_each_once(call: Call, tmp_path: Path) -> None:
    status, said = call(
        *(
            "--trainers",
            "heba,Typo",
            "--datasets",
            "caltech-101",
            "dtd,typo",
            "--gpus",
            "99",
            "--shots",
            "16,4",
        ),
        options=("OPTIM.LRR", "0.1", "OPTIM.MAX_EPOCH", "three", "TRAINER.HeBA.PERC", "fp32"),
    )
    assert status == 2
    assert list(tmp_path.iterdir()) == []
    heading, *lines = said.splitlines()
    assert heading == "error: 8 mistakes, nothing was started:"
    expected = [
        "--shots takes one number in base2new, not 2",
        "--datasets: typo (no loader of that name); there are: caltech101, ",
        "missing below --root ",
        "--trainers: there is no trainer Typo; there are: CoCoOp, ",
        "--gpus 99: no such GPU; torch finds ",
        "command line: OPTIM.LRR 0.1: unknown key OPTIM.LRR",
        "command line: OPTIM.MAX_EPOCH three: ",
        "command line: TRAINER.HeBA.PERC fp32: unknown key TRAINER.HeBA.PERC",
    ]
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(f"  - {start}")
    assert "dtd (no folder" in lines[2]
    assert lines[2].endswith(
        " dtd (or let --root be the folder that holds them)"
    )  # not typo, which nobody has
    assert lines[5].endswith(" (3 jobs)")  # of three seeds


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("OPTIM.MAX_EPOCH 0", "OPTIM.MAX_EPOCH is 0; set it to 1 or more"),
        ("OPTIM.LR nan", "OPTIM.LR"),
        ("OPTIM.NAME sgdd", 'OPTIM.NAME is "sgdd"'),
        ("OPTIM.LR_SCHEDULER cosin", "cosin"),
        ("INPUT.INTERPOLATION cubic", 'INPUT.INTERPOLATION is "cubic"'),
        ("DATALOADER.TRAIN_X.SAMPLER Random", "Random"),
        ("TEST.EVALUATOR Classify", "Classify"),
        ("DATASET.LISTING random DATASET.BAD_IMAGES x DATASET.SUBSAMPLE_CLASSES some", "SUBSAMPLE_CLASSES"),
        ("TRAINER.HeBA.PREC fp8", "TRAINER.HeBA.PREC"),
        ("TRAINER.HeBA.ADAPTER_END 30", "ADAPTER_END 30 do not fit the text encoder's 4 blocks"),
        ("TRAINER.HeBA.REDUCTION 1e9", "TRAINER.HeBA.REDUCTION is 1000000000.0"),
        ("TRAINER.HeBA.DESCRIPTIONS /nix.json", 'LLM descriptions "/nix.json" are missing'),
        ("TRAINER.HeBA.TEMPLATES ('a photo',)", 'template "a photo" has no {}'),
        ("TRAINER.LWEIB.PREC fp32", "options of another method, which HeBA does not read"),
        ("MODEL.BACKBONE.NAME ViT-B/61", '"ViT-B/61" is neither a CLIP model'),
        ("MODEL.BACKBONE.QUICK_GELU None", "MODEL.BACKBONE.QUICK_GELU True or False"),
        ("INPUT.SIZE (48,48)", "INPUT.SIZE is (48, 48)"),
    ],
)
def test_what_a_job_would_find_is_found_before_it_starts(call: Call, options: str, said: str) -> None:
    words = options.split(" ") if "'" not in options else options.split(" ", 1)
    status, error = call(options=tuple(words))
    assert status == 2
    assert said in error
    assert len(error.splitlines()) == 1
    assert error.endswith(" (3 jobs)\n")


@pytest.mark.parametrize(
    ("key", "flag"), [("OUTPUT_DIR", "--output"), ("SEED", "--seeds"), ("TRAINER.NAME", "--trainers")]
)
def test_keys_that_each_job_sets_are_refused_for_all(call: Call, key: str, flag: str) -> None:
    status, said = call(options=(key, "5"))
    assert status == 2
    assert f"{key} after -- would be the same for all jobs; say it with {flag}" in said


def test_a_damaged_file_of_weights_is_read_once(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path.parent / f"{tmp_path.name}.pt"
    bad.write_bytes(b"PK\x03\x04 cut off")
    status, said = call(options=("MODEL.BACKBONE.NAME", str(bad)))
    assert status == 2
    assert "the archive is damaged or cut off" in said
    assert len(said.splitlines()) == 1


def test_a_backbone_is_fetched_last_and_not_by_a_dry_run(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIP_CACHE", str(tmp_path.parent / "nothing"))
    asked = []

    def fetch(name: str) -> None:
        asked.append(name)
        raise OSError("no network")

    monkeypatch.setattr(clip, "load_state_dict", fetch)
    named = ("MODEL.BACKBONE.NAME", "ViT-B/16")
    assert call("--dry-run", options=named)[0] == 0
    assert call(options=(*named, "OPTIM.LRR", "1"))[0] == 2
    assert asked == []
    status, said = call(options=named)
    assert (status, said) == (2, "error: MODEL.BACKBONE.NAME ViT-B/16: no network\n")
    assert asked == ["ViT-B/16"]


def test_what_is_in_the_way_of_a_run_is_found_before_it_starts(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "base2new/train_base/caltech101/shots_16/HeBA/base2new/seed1"
    run.mkdir(parents=True)
    (run / "results.json").write_text("{}")
    (tmp_path / "base2new/test_new").touch()
    (tmp_path / "logs/base2new/HeBA-caltech101-seed2.log").mkdir(parents=True)
    status, said = call()
    assert status == 2
    assert said.splitlines()[0] == "error: 3 mistakes, nothing was started:"
    assert f'"{run}/results.json" is not the record of a run' in said
    assert f'"{tmp_path}/base2new/test_new" is a file, where a folder is to be made' in said
    assert 'HeBA-caltech101-seed2.log" is a folder, where a file is to be written' in said


def test_every_trainer_is_looked_at_up_to_its_optimiser(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a model without memory; what a trainer cannot do there would be passed by in silence."""

    def raising(error: Exception) -> str:
        raise error

    built = []
    build = preflight.build_optimizer
    monkeypatch.setattr(preflight, "describe", raising)
    monkeypatch.setattr(preflight, "build_optimizer", lambda *args: built.append(args) or build(*args))
    options = [*toy_flags[:4], *toy_flags[8:12]]
    plan = Plan("base2new", ["all"], ["caltech101"], [1], [16], toy_data, tmp_path, options=options)
    checks, jobs = Checks(on_gpus=False), expand(plan)
    for job in jobs:
        blocks = [] if job.trainer in ("ZeroshotCLIP",) else deepest(job.trainer)
        run = job.runs[0]
        checked = type(run)(run.folder, (*run.arguments, *blocks))
        assert checks.look_at(checked) == []
    assert len(built) == len(jobs) - 1  # zero-shot CLIP has none
    assert len(checks.backbones) == 1  # read once


def deepest(trainer: str) -> list[str]:
    """Options that fit the toy CLIP's four blocks."""
    from dassl.config import get_cfg_default
    from dassl.engine import TRAINER_REGISTRY
    from runner.config import extend_cfg

    cfg = get_cfg_default()
    extend_cfg(cfg)
    node = TRAINER_REGISTRY.get(trainer).options_name
    values = {"ADAPTER_END": "-1", "ADAPTER_START": "1", "PROMPT_DEPTH": "2"}
    return [
        word
        for key, value in values.items()
        if key in cfg.TRAINER[node]
        for word in (f"TRAINER.{node}.{key}", value)
    ]


@pytest.mark.parametrize(
    ("known", "given", "meant"),
    [
        (names.trainer_names, "heba", "HeBA"),
        (names.trainer_names, "LWEIB", "LwEIB"),
        (names.trainer_names, "mma", "MultiModalAdapter"),  # the folder of its scripts
        (names.trainer_names, "zsclip", "ZeroshotCLIP"),
        (names.dataset_names, "Caltech101", "caltech101"),
        (names.dataset_names, "caltech-101", "caltech101"),
        (names.dataset_names, "DescribableTextures", "dtd"),
        (names.dataset_names, "oxford-pets", "oxford_pets"),
        (names.dataset_names, "imagenet-sketch", "imagenet_sketch"),
        (names.dataset_names, "ALL", "all"),
    ],
)
def test_trainers_and_data_sets_go_by_any_of_their_names(
    known: Callable[[], dict[str, str]], given: str, meant: str
) -> None:
    assert names.resolve([given, given], known()) == ([meant], [])


def test_the_same_job_goes_by_each_name(
    call: Call, toy_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = []
    for trainer, dataset in (("HeBA", "caltech101"), ("heba", "Caltech101"), ("HEBA", "caltech-101")):
        words = ["base2new", "--root", str(toy_data), "--seeds", "1", "--dry-run"]
        assert reproduce.main([*words, "--trainers", trainer, "--datasets", dataset]) == 0
        commands.append(capsys.readouterr().out)
    assert len(set(commands)) == 1


def test_lists_are_given_with_commas_or_blanks() -> None:
    for flag, given, meant in (
        ("seeds", "1,2,3", [1, 2, 3]),
        ("seeds", "1 2 3", [1, 2, 3]),
        ("seeds", "1, 2 3", [1, 2, 3]),
        ("shots", "1,16", [1, 16]),
        ("gpus", "0 1", ["0", "1"]),
        ("gpus", "0,1", ["0", "1"]),
        ("trainers", "HeBA,CoOp MaPLe", ["HeBA", "CoOp", "MaPLe"]),
        ("datasets", "dtd,eurosat", ["dtd", "eurosat"]),
    ):
        args = reproduce.parse_args(["base2new", f"--{flag}", *given.split(" ")])
        assert getattr(args, flag) == meant
    assert reproduce.parse_args(["base2new"]).seeds == [1, 2, 3]
    assert reproduce.parse_args(["base2new"]).datasets == ["all"]


def test_a_seed_that_is_no_number_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reproduce.parse_args(["base2new", "--seeds", "1,x"])
    assert '"1,x" is not a whole number, or several as 1,2,3' in capsys.readouterr().err


def test_missing_data_have_a_remedy_that_works(tmp_path: Path) -> None:
    assert reproduce.remedy(["demo", "dtd"], tmp_path) == (
        f"get them with: python demo/make_data.py --root {tmp_path} demo && "
        f"python -m datasets.prepare --root {tmp_path} dtd (or let --root be the folder that holds them)"
    )
    assert reproduce.remedy(["image_folder"], tmp_path) == "let --root be the folder that holds them"
    for name in PROTOCOLS["base2new"].datasets:  # each is known to datasets.prepare
        assert f" {name} " in reproduce.remedy([name], tmp_path)
