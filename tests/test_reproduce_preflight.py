"""reproduce.py looks for mistakes before the first job starts, and lists all of them."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import reproduce
import train
from clip import clip
from demo import make_data
from runner import names, preflight
from runner.config import setup_cfg
from runner.jobs import OWN_KEYS, PROTOCOLS, Plan, expand
from runner.preflight import Checks
from runner.problems import Problems
from runner.record import settings
from tests.test_methods import FLAGS, node

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(
    toy_data: Path,
    job_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Calls reproduce.py base2new for the toy data; returns its status and what stderr says.

    Nothing is started: a call without a mistake ends with status 0 where jobs would begin.
    """
    monkeypatch.setattr(reproduce, "run", lambda *args: 0)

    def run(*flags: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
        words = ["base2new", "--datasets", "caltech101", "--shots", "4"]
        words += ["--root", str(toy_data), "--output", str(tmp_path)]
        status = reproduce.main([*words, *flags, "--", *job_flags, *options])
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
        options=(
            *("OPTIM.LRR", "0.1", "OPTIM.MAX_EPOCH", "three", "TRAINER.HeBA.PERC", "fp32"),
            *("MODEL.BACKBONE.NAME", "ViT-B/61"),  # hides none of the others
        ),
    )
    assert status == 2
    assert list(tmp_path.iterdir()) == []
    heading, *lines = said.splitlines()
    assert heading == "error: 9 mistakes, nothing was started:"
    expected = [
        "--shots takes one number in base2new, not 2",
        "--datasets: typo (no loader of that name); there are: caltech101, ",
        "missing below --root ",
        "--trainers: there is no trainer Typo; there are: CoCoOp, ",
        "--gpus 99: no such GPU; torch finds ",
        "command line: OPTIM.LRR 0.1: unknown key OPTIM.LRR",
        "command line: OPTIM.MAX_EPOCH three: ",
        "command line: TRAINER.HeBA.PERC fp32: unknown key TRAINER.HeBA.PERC",
        'MODEL.BACKBONE.NAME: "ViT-B/61" is neither a CLIP model',
    ]
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(f"  - {start}")
    assert "dtd (no folder" in lines[2]
    assert lines[2].endswith(
        " dtd (or let --root be the folder that holds them)"
    )  # not typo, which nobody has
    assert lines[5].endswith(" (6 jobs)")  # of three seeds, on dtd, too


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("OPTIM.LR nan", "OPTIM.LR is 'nan'; set it to a number, like its default 0.0003"),
        ("OPTIM.WEIGHT_DECAY -1", "OPTIM.WEIGHT_DECAY is -1"),
        ("TRAINER.HeBA.ADAPTER_SCALE_BASE 0", "is 0, so there is nothing to train; set it above 0"),
        ("DATALOADER.NUM_WORKERS -1", "DATALOADER.NUM_WORKERS is -1"),
        ("TRAINER.HeBA.DESCRIPTIONS /nix.json", 'LLM descriptions "/nix.json" are missing'),
        ("TRAINER.LWEIB.PREC fp32", "options of another method, which HeBA does not read"),
        ("MODEL.BACKBONE.NAME ViT-B/61", '"ViT-B/61" is neither a CLIP model'),
        ("MODEL.BACKBONE.QUICK_GELU None", "MODEL.BACKBONE.QUICK_GELU True or False"),
        ("INPUT.SIZE (48,48)", "INPUT.SIZE is (48, 48)"),
    ],
)
def test_what_a_job_would_find_is_found_before_it_starts(call: Call, options: str, said: str) -> None:
    status, error = call(options=tuple(options.split(" ")))
    assert status == 2
    assert said in error
    assert len(error.splitlines()) == 1
    assert error.endswith(" (3 jobs)\n")


def test_keys_that_each_job_sets_are_refused_for_all_also_in_a_group(call: Call) -> None:
    flags = {
        "OUTPUT_DIR": "--output",
        "SEED": "--seeds",
        "DATASET.NUM_SHOTS": "--shots",
        "DATASET.SUBSAMPLE_CLASSES": "the protocol",
    }
    pairs = [word for key in flags for word in (key, "5")]
    status, said = call(options=(*pairs, "TRAINER", "{'NAME': 'CoOp'}"))
    assert status == 2
    for key, flag in (flags | {"TRAINER.NAME": "--trainers"}).items():
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
    run = tmp_path / "base2new/train_base/caltech101/shots_4/HeBA/base2new/seed1"
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
    toy_data: Path, job_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a model without memory; what a trainer cannot do there would be passed by in silence."""

    def raising(error: Exception) -> str:
        raise error

    built = []
    build = preflight.build_optimizer
    monkeypatch.setattr(preflight, "describe", raising)
    monkeypatch.setattr(preflight, "build_optimizer", lambda *args: built.append(args) or build(*args))
    options = [*job_flags[:4], *job_flags[8:12]]
    plan = Plan("base2new", ["all"], ["caltech101"], [1], [16], toy_data, tmp_path, options=options)
    checks, jobs = Checks(on_gpus=False), expand(plan)
    for job in jobs:
        blocks = FLAGS.get(job.trainer, {}).items()  # that fit the toy CLIP's four
        fitting = [word for key, value in blocks for word in (f"{node(job.trainer)}.{key}", str(value))]
        run = job.runs[0]
        checked = type(run)(run.folder, (*run.arguments, *fitting))
        assert checks.look_at(checked) == []
    assert len(built) == len(jobs) - 1  # zero-shot CLIP has none
    assert len(checks.backbones) == 1  # read once


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


def test_lists_are_given_with_commas_or_blanks() -> None:
    for flag, given, meant in (
        ("seeds", "1,2,3", ["1", "2", "3"]),
        ("seeds", "1 2 3", ["1", "2", "3"]),
        ("seeds", "1, 2 3", ["1", "2", "3"]),
        ("shots", "1,16", ["1", "16"]),
        ("gpus", "0 1", ["0", "1"]),
        ("gpus", "0,1", ["0", "1"]),
        ("trainers", "HeBA,CoOp MaPLe", ["HeBA", "CoOp", "MaPLe"]),
        ("datasets", "dtd,eurosat", ["dtd", "eurosat"]),
    ):
        args = reproduce.parse_args(["base2new", f"--{flag}", *given.split(" ")])
        assert getattr(args, flag) == meant
    assert reproduce.parse_args(["base2new"]).seeds == ["1", "2", "3"]
    assert reproduce.whole_numbers("--seeds", ["3", "1", "3"], Problems()) == (3, 1)
    assert reproduce.parse_args(["base2new"]).datasets == ["all"]


def test_a_seed_that_is_no_number_is_one_mistake_of_the_list(call: Call) -> None:
    status, said = call("--seeds", "a,b", options=("OPTIM.LRR", "1"))
    assert status == 2
    heading, *lines = said.splitlines()
    assert heading == "error: 3 mistakes, nothing was started:"
    assert lines[0] == '  - --seeds: "a" is not a whole number; give one, or several as 1,2,3'
    assert lines[1].startswith('  - --seeds: "b" is not')
    assert "unknown key OPTIM.LRR" in lines[2]


def test_each_seed_that_no_generator_takes_is_named_once(call: Call) -> None:
    status, said = call("--seeds", "-1", str(10**20), "2")
    assert status == 2
    heading, *lines = said.splitlines()
    assert heading == "error: 2 mistakes, nothing was started:"
    for line, seed in zip(lines, (-1, 10**20), strict=True):
        assert line == f"  - --seeds {seed}: generators take numbers from 0, below 4294967296"


def test_a_seed_given_twice_counts_once(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = call("--seeds", "1", "1", "--dry-run")
    assert (status, said.splitlines()[:2]) == (
        0,
        ["1 job to do, 0 of 1 are finished: HeBA 1", "data sets: caltech101; seeds: 1"],
    )


@pytest.mark.parametrize(
    "flags", [["--jobs", "two"], ["--jobs", "0"], ["--nix", "1"], ["--trainers", ","], ["more"]]
)
def test_a_mistake_that_argparse_finds_is_one_line(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        reproduce.parse_args(["base2new", *flags])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.endswith(" (--help explains the flags)\n")
    assert said.count("\n") == 1


def test_every_key_that_a_jobs_command_sets_is_refused(tmp_path: Path) -> None:
    """What its configuration files set may be overridden; what makes it the job that it is may not."""
    set_by_jobs = set()
    for protocol, trainer in (("base2new", "HeBA"), ("cross_dataset", "HeBA"), ("few_shot", "ZeroshotCLIP")):
        plan = Plan(protocol, [trainer], ["dtd"], [1], [4], tmp_path, tmp_path)
        for run in [run for job in expand(plan) for run in job.runs]:
            args = train.parse_args(list(run.arguments))
            files = ["--config-file", args.config_file, "--dataset-config-file", args.dataset_config_file]
            given = settings(setup_cfg(args))
            without = settings(setup_cfg(train.parse_args([*files, "--trainer", trainer])))
            set_by_jobs |= {key for key, value in given.items() if value != without[key]} | set(
                args.opts[::2]
            )
    assert {"DATASET.ROOT", "DATASET.SUBSAMPLE_CLASSES", "DATASET.NUM_SHOTS", "SEED"} < set_by_jobs
    assert set_by_jobs <= set(OWN_KEYS)


def test_a_misspelt_key_hides_no_later_mistake(call: Call) -> None:
    """Nor does a wrong value: the job would find these mistakes one after the other."""
    wrong = {
        "OPTIM.LRR": "1",
        "OPTIM.MAX_EPOCH": "0",
        "MODEL.COMPILE": "3",
        "OPTIM.NAME": "sgdd",
        "OPTIM.LR_SCHEDULER": "cosin",
        "OPTIM.WARMUP_TYPE": "lin",
        "TRAINER.HeBA.PREC": "fp8",
        "TRAINER.HeBA.ADAPTER_END": "30",
        "TRAINER.HeBA.REDUCTION": "1e9",
        "TRAINER.HeBA.TEMPLATES": "('a photo',)",
        "INPUT.INTERPOLATION": "cubic",
        "INPUT.TRANSFORMS": "('random_flop',)",
        "DATALOADER.TRAIN_X.SAMPLER": "Rand",
        "TEST.EVALUATOR": "Cls",
    }
    status, said = call(options=tuple(word for pair in wrong.items() for word in pair))
    assert status == 2
    lines = said.splitlines()[1:]
    assert len(lines) == len(wrong)
    for key, value in wrong.items():
        (line,) = [
            line for line in lines if (key if key != "TRAINER.HeBA.TEMPLATES" else 'template "') in line
        ]
        assert value.strip("()',").replace("1e9", "1000000000.0") in line
    assert all(line.endswith(" (3 jobs)") for line in lines)


def test_loaders_are_looked_at_on_every_data_set(
    toy_data: Path, job_flags: list[str], tmp_path: Path
) -> None:
    small = tmp_path / "data"  # without training images of the first class
    shutil.copytree(toy_data, small)
    split = small / "caltech-101/split_zhou_Caltech101.json"
    parts = json.loads(split.read_text())
    parts["train"] = [item for item in parts["train"] if item[1] > 0]
    split.write_text(json.dumps(parts))
    checks, found = Checks(on_gpus=False), []
    for root in (toy_data, small):
        plan = Plan("few_shot", ["HeBA"], ["caltech101"], [1], [4], root, tmp_path, options=job_flags)
        (job,) = expand(plan)
        found.append(checks.look_at(job.runs[0]))
    assert found[0] == []
    (said,) = found[1]
    assert "but none to train on" in said


@pytest.mark.parametrize("protocol", ["demo", "base2new"])
def test_a_dry_run_of_the_demo_says_that_it_will_be_drawn(
    protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [protocol, "--datasets", "demo", "--trainers", "HeBA", "--seeds", "1", "--dry-run"]
    call += ["--root", str(tmp_path / "data"), "--output", str(tmp_path / "output")]
    status = reproduce.main([*call, "--", "DATALOADER.NUM_WORKERS", "0"])
    said = capsys.readouterr()
    assert list(tmp_path.iterdir()) == []
    if protocol == "base2new":  # which draws nothing itself
        assert (status, said.out) == (2, "")
        assert f"python demo/make_data.py --root {tmp_path / 'data'} demo" in said.err
        assert "to do" not in said.err
        return
    assert status == 0
    drawing, job = said.out.splitlines()
    assert shlex.split(drawing) == reproduce.draw_command(tmp_path / "data")
    assert "--seed 1" in job
    assert said.err.startswith("1 job to do, 0 of 1 are finished: HeBA 1\n")
    assert reproduce.main([*call, "--", "OPTIM.LRR", "0", "TRAINER.HeBA.PREC", "fp8"]) == 2
    said = capsys.readouterr()
    assert "error: 2 mistakes, nothing was started:" in said.err
    assert said.out == ""


def test_the_demo_is_drawn_after_all_else_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(reproduce, "draw_demo", drawn.append)
    call = ["demo", "--trainers", "HeBA", "--root", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert reproduce.main([*call, "--", "OPTIM.LRR", "0"]) == 2
    assert drawn == []
    assert "unknown key OPTIM.LRR" in capsys.readouterr().err
    assert reproduce.main(call) == 2  # it was not drawn here: its jobs would find nothing
    assert drawn == [tmp_path / "data"]
    assert 'split_zhou_Demo.json" is missing' in capsys.readouterr().err
    (tmp_path / "data/demo").mkdir(parents=True)
    (tmp_path / "data/demo/mine.txt").touch()
    assert reproduce.main(call) == 2
    assert "was not made by this script: move it away" in capsys.readouterr().err
    assert len(drawn) == 1


def test_a_demo_that_was_drawn_in_part_is_drawn_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_data, "draw_class", lambda *drawn: 0)
    assert make_data.main(["--root", str(tmp_path), "demo"]) == 0
    problems = Problems()
    assert not reproduce.look_for_drawn(tmp_path, problems)
    for file in make_data.written_files("demo", make_data.DATA_SETS["demo"], tmp_path)[:2]:
        content = file.read_bytes()
        file.unlink()
        assert reproduce.look_for_drawn(tmp_path, problems)
        file.write_bytes(content)
    (tmp_path / "demo" / make_data.STAMP).write_text("of another version")
    assert reproduce.look_for_drawn(tmp_path, problems)
    assert not problems
    reproduce.look_for_drawn(tmp_path / "demo" / make_data.STAMP, problems)
    assert "is a file, where a folder is to be made; choose another --root" in "".join(problems.texts)


def test_what_is_wrong_with_the_places_is_listed_at_once(call: Call) -> None:
    status, said = call("--slurm", "partition", "--gpus", "99")
    assert (status, said.count("\n  - ")) == (2, 2)
    assert "--slurm needs --launcher slurm" in said
    assert "--gpus 99: no such GPU" in said
    status, said = call("--launcher", "slurm", "--slurm", "partition", "--gpus", "99")
    assert (status, said.count("\n  - ")) == (2, 2)
    assert "--slurm takes KEY=VALUE" in said
    assert "--gpus names GPUs of this machine" in said


def test_missing_data_have_a_remedy_that_works(tmp_path: Path) -> None:
    assert reproduce.remedy(["demo", "dtd"], tmp_path) == (
        f"get them with: python demo/make_data.py --root {tmp_path} demo && "
        f"python -m datasets.prepare --root {tmp_path} dtd (or let --root be the folder that holds them)"
    )
    assert reproduce.remedy(["image_folder"], tmp_path) == "let --root be the folder that holds them"
    for name in PROTOCOLS["base2new"].datasets:  # each is known to datasets.prepare
        assert f" {name} " in reproduce.remedy([name], tmp_path)
