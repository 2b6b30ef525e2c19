"""Reading finished runs: published logs, our results.json, and the Base / Novel / HM arithmetic."""

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import parse_test_res

SCRIPT = Path(parse_test_res.__file__)
EXPERIMENT = "base2new/{half}/{dataset}/shots_16/{trainer}/base2new"
CALTECH = EXPERIMENT.format(half="train_base", dataset="caltech101", trainer="HeBA")


def experiment(half: str, dataset: str, trainer: str = "HeBA") -> str:
    return EXPERIMENT.format(half=half, dataset=dataset, trainer=trainer)


def write_results(folder: Path, accuracy: float, **more) -> None:
    """A finished run of ours; which classes it is of follows from the folder unless told."""
    new = "test_new" in folder.parts
    content = {
        "schema": 1,
        "accuracy": accuracy,
        "eval_only": new,
        "subsample_classes": "new" if new else "base",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content | more))


def write_log(path: Path, body: str, eval_only: bool | None = False) -> None:
    """A log as Dassl writes it, cut down to what tells a run's kind, and the body."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "" if eval_only is None else f"** Arguments **\neval_only: {eval_only}\n"
    path.write_text(head + body)


def result(accuracy: str, end: str = "Finish training\n") -> str:
    """The last lines of a log."""
    lines = ["=> result", "* total: 8,041", f"* accuracy: {accuracy}%", "* error: 1.0%"]
    return "epoch [1/1] batch [1/1] loss 1.0\n" + end + "\n".join(lines) + "\n"


def parse(capsys: pytest.CaptureFixture, *argv: object) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line."""
    status = parse_test_res.main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    return status, out, err


# Logs of the published HeBA and LwEIB, and what the family's scripts print for them.


@pytest.mark.parametrize(
    ("trainer", "half", "dataset", "printed"),
    [
        ("HeBA", "train_base", "caltech101", "18.63% +- 0.80%"),
        ("HeBA", "train_base", "oxford_pets", "26.63% +- 1.18%"),
        ("HeBA", "test_new", "caltech101", "16.70% +- 0.00%"),
        ("HeBA", "test_new", "oxford_pets", "0.00% +- 0.00%"),
        ("LwEIB", "train_base", "caltech101", "29.17% +- 1.35%"),
        ("LwEIB", "train_base", "oxford_pets", "33.60% +- 1.56%"),
        ("LwEIB", "test_new", "caltech101", "16.10% +- 0.42%"),
        ("LwEIB", "test_new", "oxford_pets", "0.00% +- 0.00%"),
    ],
)
def test_published_logs_give_the_familys_numbers(assets, capsys, trainer, half, dataset, printed):
    folder = assets / "real/logs" / trainer / "output" / experiment(half, dataset, trainer)
    test_log = ["--test-log"] if half == "test_new" else []
    status, out, _ = parse(capsys, folder, *test_log)
    assert status == 0
    assert f"* accuracy: {printed}\n" in out


@pytest.mark.parametrize(
    ("flags", "printed"),
    [
        ([], ["accuracy: 19.20%. ", "accuracy: 19.20%. ", "accuracy: 17.50%. ", "18.63% +- 0.80%"]),
        (
            ["--test-log"],
            ["accuracy: 19.20%. ", "accuracy: 19.20%. ", "accuracy: 17.50%. ", "18.63% +- 0.80%"],
        ),
        (["--ci95"], ["accuracy: 19.20%. ", "accuracy: 19.20%. ", "accuracy: 17.50%. ", "18.63% +- 0.91%"]),
        (
            ["--keyword", "macro_f1"],
            ["macro_f1: 14.10%. ", "macro_f1: 13.40%. ", "macro_f1: 12.10%. ", "13.20% +- 0.83%"],
        ),
    ],
)
def test_output_is_line_for_line_that_of_coop(assets, capsys, monkeypatch, flags, printed):
    monkeypatch.chdir(assets / "real/logs/HeBA")
    folder = f"output/{CALTECH}"
    lines = [f"Parsing files in {folder}"]
    lines += [f"file: {folder}/seed{seed}/log.txt. {text}" for seed, text in enumerate(printed[:3], start=1)]
    keyword = printed[0].split(":")[0]
    lines += ["===", f"Summary of directory: {folder}", f"* {keyword}: {printed[3]}", "==="]
    assert parse(capsys, folder, *flags) == (0, "\n".join(lines) + "\n", "")


def test_multi_exp_prints_the_average_of_its_experiments(assets, capsys, monkeypatch):
    monkeypatch.chdir(assets / "real/logs/HeBA")
    status, out, _ = parse(capsys, f"output/{CALTECH}/..", "--multi-exp")
    assert status == 0
    assert "* accuracy: 18.63% +- 0.80%\n===\nAverage performance\n* accuracy: 18.63%\n" in out


def test_tests_are_recognised_without_the_flag(assets, capsys):
    folder = assets / "real/logs/HeBA/output" / experiment("test_new", "caltech101")
    status, out, _ = parse(capsys, folder)
    assert status == 0
    assert "* accuracy: 16.70% +- 0.00%\n" in out
    assert "read as with --test-log" in out


@pytest.mark.parametrize("flags", [[], ["--test-log"]])
def test_of_several_results_the_last_counts(assets, capsys, flags):
    assert (
        "* accuracy: 14.20% +- 0.00%\n"
        in parse(capsys, assets / "real/logs/HeBA/bestval/output" / CALTECH, *flags)[1]
    )


def test_a_resumed_run_is_found_and_a_crashed_one_named(assets, capsys):
    status, out, _ = parse(capsys, assets / "real/logs/HeBA/mixed/output" / CALTECH)
    assert status == 0
    assert "seed1/log.txt. accuracy: 19.20%." in out
    assert 'seed2: log.txt: crashed or still running, no "Finish training", last epoch 1/6\n' in out
    assert "seed3/log.txt-2026-11-22-15-09-56. accuracy: 21.70%." in out
    assert "* accuracy: 20.45% +- 1.25%\n" in out


@pytest.mark.parametrize(("trainer", "accuracy"), [("HeBA", "21.70"), ("LwEIB", "19.20")])
def test_a_resumed_run_alone_counts(assets, capsys, trainer, accuracy):
    folder = (
        assets / "real/logs" / trainer / "resumed/output" / experiment("train_base", "caltech101", trainer)
    )
    status, out, _ = parse(capsys, folder)
    assert status == 0
    assert f"* accuracy: {accuracy}% +- 0.00%\n" in out


@pytest.mark.parametrize("trainer", ["HeBA", "LwEIB"])
@pytest.mark.parametrize("flags", [[], ["--test-log"]])
def test_only_crashed_runs_are_one_clear_line_and_status_2(assets, capsys, trainer, flags):
    folder = (
        assets / "real/logs" / trainer / "crashed/output" / experiment("train_base", "caltech101", trainer)
    )
    status, out, err = parse(capsys, folder, *flags)
    assert status == 2
    assert "seed1: log.txt: crashed or still running" in out
    assert err.startswith(f"error: no finished run in {folder}")
    assert err.count("\n") == 1


def test_published_logs_make_the_table(assets, capsys):
    status, out, _ = parse(capsys, assets / "real/logs/LwEIB/output")
    assert status == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if line}
    assert rows["caltech101"] == "29.17 ± 1.35 16.10 ± 0.42 20.75 ± 0.49 3/3"
    assert rows["oxford_pets"] == "33.60 ± 1.56 0.00 ± 0.00 0.00 ± 0.00 3/3"
    assert rows["Average"] == "31.38 8.05 12.81"


# Logs in the forms of other trainers, and what goes wrong in them.


@pytest.mark.parametrize("end", ["Finish training\n", "Finished training\n"])
@pytest.mark.parametrize(("accuracy", "printed"), [("84.2", "84.20"), ("84.27", "84.27"), ("100", "100.00")])
def test_logs_of_both_dassl_versions_and_any_decimals_are_read(tmp_path, capsys, end, accuracy, printed):
    write_log(tmp_path / "seed1/log.txt", result(accuracy, end), eval_only=None)
    assert f"* accuracy: {printed}% +- 0.00%" in parse(capsys, tmp_path)[1]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (" \n", "log.txt: empty"),
        # this one is a validation's accuracy, of a run that crashed later
        (result("50.0", end=""), 'no "Finish training", last epoch 1/1'),
        ("Finish training\nDeploy the last-epoch model\n", 'no "* accuracy: …%" after "Finish training"'),
        (result("nan"), 'no "* accuracy: …%" after "Finish training"'),
    ],
)
def test_an_unfinished_seed_is_named_and_not_averaged(tmp_path, capsys, body, why):
    write_log(tmp_path / "seed1/log.txt", result("80.0"))
    write_log(tmp_path / "seed2/log.txt", body, eval_only=None)
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0
    assert f"not counted: {tmp_path}/seed2: " in out
    assert why in out
    assert "* accuracy: 80.00% +- 0.00%" in out


def test_a_folder_without_log_is_named_and_seeds_are_in_numeric_order(tmp_path, capsys):
    for seed in (10, 9):
        write_log(tmp_path / f"seed{seed}/log.txt", result("80.0"))
    (tmp_path / "seed11").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("")
    out = parse(capsys, tmp_path)[1].splitlines()
    assert out[1:4] == [
        f"file: {tmp_path}/seed9/log.txt. accuracy: 80.00%. ",
        f"file: {tmp_path}/seed10/log.txt. accuracy: 80.00%. ",
        f"not counted: {tmp_path}/seed11: no log.txt and no results.json",
    ]


def test_of_several_finished_logs_the_newest_counts(tmp_path, capsys):
    write_log(tmp_path / "seed1/log.txt", result("10.0"))
    write_log(tmp_path / "seed1/log.txt-2026-01-02-00-00-00", result("20.0"))
    write_log(tmp_path / "seed1/log.txt-2026-01-03-00-00-00", "epoch [1/5] batch [1/1] loss 1.0\n")
    out = parse(capsys, tmp_path)[1]
    assert "seed1/log.txt-2026-01-02-00-00-00. accuracy: 20.00%." in out
    assert "log.txt-2026-01-03-00-00-00: crashed or still running" in out


def test_a_later_test_in_a_training_folder_does_not_replace_its_result(tmp_path, capsys):
    """An --eval-only run on other classes into the same folder must not become the base accuracy."""
    write_log(tmp_path / "seed1/log.txt", result("90.0"))
    write_log(tmp_path / "seed1/log.txt-2026-01-02-00-00-00", result("10.0", end=""), eval_only=True)
    assert "* accuracy: 90.00% +- 0.00%" in parse(capsys, tmp_path)[1]
    assert "* accuracy: 10.00% +- 0.00%" in parse(capsys, tmp_path, "--test-log")[1]


def test_a_single_seeds_folder_can_be_given(tmp_path, capsys):
    write_results(tmp_path / "seed1", 81.234)
    (tmp_path / "seed1/adapter_learner").mkdir()
    assert "* accuracy: 81.23% +- 0.00%" in parse(capsys, tmp_path / "seed1")[1]


# results.json.


def test_results_json_is_preferred_for_its_precision(tmp_path, capsys):
    for seed, accuracy in ((1, 84.2105), (2, 84.2205)):
        write_results(tmp_path / f"seed{seed}", accuracy, error_rate=100 - accuracy, unknown={"later": 1})
        write_log(tmp_path / f"seed{seed}/log.txt", result("84.2"))
    write_log(tmp_path / "seed3/log.txt", result("84.5"))  # another code's run beside ours
    out = parse(capsys, tmp_path)[1]
    assert f"file: {tmp_path}/seed1/results.json. accuracy: 84.21%. " in out
    assert f"file: {tmp_path}/seed3/log.txt. accuracy: 84.50%. " in out
    assert "* accuracy: 84.31% +- 0.13%" in out
    assert "* error: " in parse(capsys, tmp_path, "--keyword", "error")[1]


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"accuracy": null}', '{"accuracy": NaN}', '{"accuracy": "?"}', "{}"]
)
def test_a_broken_results_json_is_named_and_the_log_is_used(tmp_path, capsys, content):
    write_log(tmp_path / "seed1/log.txt", result("84.2"))
    (tmp_path / "seed1/results.json").write_text(content)
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0
    assert f"note: {tmp_path}/seed1: results.json: " in out
    assert "; log.txt is used\n" in out
    assert "* accuracy: 84.20% +- 0.00%" in out


def test_an_unfinished_run_of_ours_is_named_with_the_way_on(tmp_path, capsys):
    write_results(tmp_path / "seed1", 80.0)
    write_log(tmp_path / "seed2/log.txt", "epoch [3/30] batch [1/1] loss 1.0\n")
    (tmp_path / "seed2/resume.pth.tar").touch()
    out = parse(capsys, tmp_path)[1]
    assert "last epoch 3/30; resume.pth.tar is there: the same command goes on from it" in out


OURS = "VLM-HeBA: a run is finished when its results.json is there\n"


@pytest.mark.parametrize(
    ("half", "body", "epoch"),
    [
        ("train_base", result("84.2"), ", last epoch 1/1"),
        ("test_new", result("84.2", end=""), ", last epoch 1/1"),
        # killed in its second evaluation: what stands there is the other scale's accuracy
        ("test_new", "=> result\n* accuracy: 84.2%\nEvaluate on the *test* set\n", ""),
    ],
)
@pytest.mark.parametrize("name", ["log.txt", "log.txt-2026-01-02-00-00-00"])
def test_a_log_of_ours_does_not_count_without_its_results_json(tmp_path, capsys, half, body, epoch, name):
    folder = tmp_path / experiment(half, "dtd")
    for seed in (1, 2):
        write_log(folder / f"seed{seed}" / name, OURS + body, eval_only=half == "test_new")
    write_results(folder / "seed1", 80.0)
    (folder / "seed2/resume.pth.tar").touch()
    why = f"not counted: {folder}/seed2: {name}: crashed or still running, no results.json{epoch}; resume.pth"
    status, out, _ = parse(capsys, folder)
    assert status == 0
    assert why in out
    assert "* accuracy: 80.00% +- 0.00%" in out
    rows, notes = tables(capsys, tmp_path)
    assert rows["dtd"]["Base" if half == "train_base" else "Novel"]["seeds"] == ["1"]
    assert notes[0].startswith(why)
    (folder / "seed1/results.json").unlink()
    assert parse(capsys, folder)[0] == parse(capsys, folder, "--test-log")[0] == 2


def test_a_broken_results_json_beside_a_log_of_ours_is_not_counted(tmp_path, capsys):
    write_log(tmp_path / "seed1/log.txt", OURS + result("84.2"))
    (tmp_path / "seed1/results.json").write_text("{}")
    status, out, _ = parse(capsys, tmp_path)
    assert status == 2
    why = "results.json: no 'accuracy' in it; log.txt: counts only by its results.json\n"
    assert f"not counted: {tmp_path}/seed1: {why}" in out


def test_another_codes_log_counts_beside_an_unfinished_one_of_ours(tmp_path, capsys):
    quoting = "a word on VLM-HeBA: a run is finished when\n"
    write_log(tmp_path / "seed1/log.txt", quoting + result("84.2"))
    write_log(tmp_path / "seed1/log.txt-2026-01-02-00-00-00", OURS + result("10.0"))
    out = parse(capsys, tmp_path)[1]
    assert "log.txt-2026-01-02-00-00-00: crashed or still running, no results.json, last epoch 1/1; " in out
    assert "* accuracy: 84.20% +- 0.00%" in out


# The Base / Novel / HM table.


@pytest.fixture
def root(tmp_path) -> Path:
    """Two data sets, two seeds: base 80 and 90, novel 60 and 40 for eurosat; 50, 50 and 100, 100 for zoo."""
    root = tmp_path / "output"
    for dataset, base, novel in (("zoo", (50, 50), (100, 100)), ("eurosat", (80, 90), (60, 40))):
        for seed in (1, 2):
            write_results(root / experiment("train_base", dataset) / f"seed{seed}", base[seed - 1])
            write_results(root / experiment("test_new", dataset) / f"seed{seed}", novel[seed - 1])
    return root


def tables(capsys: pytest.CaptureFixture, root: Path, *flags: str) -> tuple[dict[str, dict], list[str]]:
    """The rows by data set and the notes of the only table."""
    status, out, _ = parse(capsys, root, "--format", "json", *flags)
    assert status == 0
    (table,) = json.loads(out)
    return {row["dataset"]: row for row in table["rows"]}, table["notes"]


def test_hm_is_of_the_means_and_its_spread_of_the_seeds(root, capsys):
    rows, notes = tables(capsys, root)
    assert list(rows) == ["eurosat", "zoo", "Average"]  # the papers' order, then the alphabet
    assert rows["eurosat"]["Base"] == {"mean": 85, "spread": 5, "seeds": ["1", "2"]}
    assert rows["eurosat"]["Novel"] == {"mean": 50, "spread": 10, "seeds": ["1", "2"]}
    # of the means 2·85·50/135; of the seeds 2·80·60/140 and 2·90·40/130, half their difference apart
    assert rows["eurosat"]["HM"]["mean"] == pytest.approx(62.96296, abs=1e-5)
    assert rows["eurosat"]["HM"]["spread"] == pytest.approx((68.571429 - 55.384615) / 2, abs=1e-5)
    assert rows["zoo"]["HM"]["mean"] == pytest.approx(200 / 3)
    # means over the data sets, and HM of those: 2·67.5·75/142.5
    assert rows["Average"]["Base"]["mean"] == 67.5
    assert rows["Average"]["Novel"]["mean"] == 75
    assert rows["Average"]["HM"]["mean"] == pytest.approx(71.052632, abs=1e-5)
    assert notes == []
    ci95, _ = tables(capsys, root, "--ci95")
    assert ci95["eurosat"]["Base"]["spread"] == pytest.approx(1.96 * 5 / 2**0.5)


def test_seeds_that_differ_are_told(root, capsys):
    write_results(root / experiment("train_base", "eurosat") / "seed3", 85)
    rows, notes = tables(capsys, root)
    assert rows["eurosat"]["HM"]["seeds"] == ["1", "2"]
    assert rows["eurosat"]["Base"]["seeds"] == ["1", "2", "3"]
    assert len(notes) == 1
    assert notes[0].startswith("eurosat: base has the seeds 1, 2, 3, novel 1, 2: ")


def test_what_is_missing_shows_and_stays_out_of_the_average(root, capsys):
    write_results(root / experiment("train_base", "dtd") / "seed1", 10)
    write_log(root / experiment("test_new", "dtd") / "seed1/log.txt", "", eval_only=True)
    rows, notes = tables(capsys, root)
    assert rows["Average"]["Base"]["mean"] == 67.5
    assert "HM" not in rows["dtd"]
    assert any("test_new/dtd/shots_16/HeBA/base2new/seed1: log.txt: crashed" in note for note in notes)
    assert "Average: of the 2 data sets that have both base and novel results" in notes
    out = parse(capsys, root)[1]
    assert [line.split() for line in out.splitlines() if line.startswith("dtd")] == [
        ["dtd", "10.00", "±", "0.00", "—", "—", "1/0"]
    ]


def test_a_run_on_other_classes_is_not_counted(root, capsys):
    write_results(root / experiment("train_base", "eurosat") / "seed2", 99, subsample_classes="all")
    rows, notes = tables(capsys, root)
    assert rows["eurosat"]["Base"]["mean"] == 80
    assert any("seed2: DATASET.SUBSAMPLE_CLASSES is all, not base" in note for note in notes)


def test_the_other_scale_gets_its_column(root, capsys):
    for dataset, other in (("eurosat", 52.0), ("zoo", 90.0)):
        for seed in (1, 2):
            scale = {"base_scale": {"accuracy": other + seed, "adapter_scale": 0.025}}
            write_results(root / experiment("test_new", dataset) / f"seed{seed}", 60, other=scale)
    rows, _ = tables(capsys, root)
    assert rows["eurosat"]["Novel (base scale)"]["mean"] == 53.5
    assert rows["Average"]["Novel (base scale)"]["mean"] == 72.5
    assert "Novel (base scale)" in parse(capsys, root)[1]


def test_a_column_that_lacks_a_data_set_has_no_average_and_all_notes_stay(root, capsys):
    for seed in (1, 2):
        other = {"base_scale": {"accuracy": 50}}
        write_results(root / experiment("test_new", "zoo") / f"seed{seed}", 60, other=other)
    write_log(root / experiment("train_base", "zoo") / "seed3/log.txt", OURS + result("10.0"))
    write_results(root / experiment("train_base", "zoo") / "seed4", 50)
    rows, notes = tables(capsys, root)
    assert rows["zoo"]["Novel (base scale)"]["mean"] == 50
    assert list(rows["Average"]) == ["dataset", "Base", "Novel", "HM"]
    assert [note.split(":")[0] for note in notes] == ["not counted", "zoo"]
    lines = parse(capsys, root)[1].splitlines()
    assert lines[-3:-1] == notes
    assert [line.split()[-1] for line in lines if line.startswith("Average")] == ["—"]


def test_trees_some_levels_below_are_found_each_with_its_tables(root, tmp_path, capsys):
    run = "dtd/shots_16/HeBA/base2new/seed1"
    for tree in ("a/b/c/d/e", "a/f"):
        write_results(tmp_path / tree / "base2new/train_base" / run, 70)
    for passed_by in ("seed1/model", ".trash", "a/b/c/d/e/f/g"):
        write_results(tmp_path / passed_by / "train_base" / run, 10)
    (tmp_path / "z").symlink_to(root)
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "log.txt").write_text("")  # e.g. of nohup
    status, out, _ = parse(capsys, tmp_path, "--format", "json")
    assert status == 0
    found = [Path(table["root"]).relative_to(tmp_path) for table in json.loads(out)]
    assert [str(path.parent) for path in found] == ["a/b/c/d/e", "a/f", "output"]


def test_the_published_logs_make_tables_tree_by_tree(assets, capsys):
    status, out, _ = parse(capsys, assets / "real/logs", "--format", "json")
    assert status == 0
    found = {str(Path(t["root"]).relative_to(assets / "real/logs")): t["rows"] for t in json.loads(out)}
    trees = [f"HeBA/{tree}output/base2new" for tree in ("bestval/", "crashed/", "mixed/", "", "resumed/")]
    trees += [f"LwEIB/{tree}output/base2new" for tree in ("crashed/", "", "resumed/")]
    assert list(found) == trees
    assert found["LwEIB/output/base2new"][-1]["HM"]["mean"] == pytest.approx(12.81, abs=0.005)
    assert found["HeBA/crashed/output/base2new"] == [{"dataset": "caltech101"}]


def test_trainers_and_shots_get_tables_of_their_own(root, capsys):
    for shots in (4, 16):
        for half in ("train_base", "test_new"):
            write_results(root / f"base2new/{half}/dtd/shots_{shots}/CoOp/ctx/seed1", 70)
    out = parse(capsys, root)[1]
    titles = [line.split(":")[0].split(",")[:2] for line in out.splitlines() if "accuracy in %" in line]
    assert titles == [["CoOp ctx", " 4 shots"], ["CoOp ctx", " 16 shots"], ["HeBA base2new", " 16 shots"]]


def test_markdown_and_csv(root, capsys):
    assert (
        "| eurosat    | 85.00 ± 5.00 | 50.00 ± 10.00 | 62.96 ± 6.59 |"
        in parse(capsys, root, "--format", "markdown")[1]
    )
    rows = list(csv.DictReader(io.StringIO(parse(capsys, root, "--format", "csv")[1])))
    assert [row["dataset"] for row in rows] == ["eurosat", "zoo", "Average"]
    assert float(rows[0]["HM"]) == pytest.approx(2 * 85 * 50 / 135)
    assert (rows[0]["trainer"], rows[0]["shots"], rows[0]["Base seeds"]) == ("HeBA", "16", "1 2")


# The command line.


def test_a_missing_directory_is_one_line_and_status_2(tmp_path):
    run = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "nix"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"error: no such directory: {tmp_path / 'nix'}\n"


def test_a_format_without_a_table_is_an_error(tmp_path, capsys):
    write_results(tmp_path / "seed1", 80)
    status, out, err = parse(capsys, tmp_path, "--format", "csv")
    assert (status, out) == (2, "")
    assert "--format csv" in err


def test_neither_torch_nor_numpy_is_imported(root):
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import parse_test_res; "
    code += (
        f"parse_test_res.main([{str(root)!r}]); print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_five_hundred_runs(tmp_path, capsys):
    """Prints the time (pytest -s): 10 data sets × 25 seeds × 2 halves with results.json and a log."""
    for dataset in range(10):
        for seed in range(25):
            for half in ("train_base", "test_new"):
                folder = tmp_path / experiment(half, f"set{dataset}") / f"seed{seed}"
                write_results(folder, 50 + seed)
                write_log(folder / "log.txt", "epoch [1/30] batch [1/1] loss 1.0\n" * 500 + result("50.0"))
    start = time.perf_counter()
    assert parse(capsys, tmp_path)[0] == 0
    from_json = time.perf_counter() - start
    for path in tmp_path.rglob("results.json"):
        path.unlink()
    start = time.perf_counter()
    assert parse(capsys, tmp_path)[0] == 0
    with capsys.disabled():
        print(
            f"\n500 runs: {from_json:.2f} s from results.json, {time.perf_counter() - start:.2f} s from logs"
        )
