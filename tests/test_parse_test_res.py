"""The command line of parse_test_res.py: published logs, our records, and what goes wrong in them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import parse_test_res
from tests.result_trees import (
    experiment,
    in_folder,
    parse,
    write_log,
    write_protocols,
    write_results,
)

pytestmark = pytest.mark.usefixtures("written_run")
SCRIPT = Path(parse_test_res.__file__)
CALTECH = experiment("train_base", "caltech101")


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
        "* accuracy: 14.20%\n" in parse(capsys, assets / "real/logs/HeBA/bestval/output" / CALTECH, *flags)[1]
    )


def test_a_resumed_run_is_found_and_a_crashed_one_named(assets, capsys):
    status, out, _ = parse(capsys, assets / "real/logs/HeBA/mixed/output" / CALTECH)
    assert status == 0
    assert "seed1/log.txt. accuracy: 19.20%." in out
    assert re.search(r'seed2: log.txt: .*crashed.*, no "Finish training", last epoch 1/6\n', out)
    assert "seed3/log.txt-2026-11-22-15-09-56. accuracy: 21.70%." in out
    assert "* accuracy: 20.45% +- 1.25%\n" in out


@pytest.mark.parametrize(("trainer", "accuracy"), [("HeBA", "21.70"), ("LwEIB", "19.20")])
def test_a_resumed_run_alone_counts(assets, capsys, trainer, accuracy):
    folder = (
        assets / "real/logs" / trainer / "resumed/output" / experiment("train_base", "caltech101", trainer)
    )
    status, out, _ = parse(capsys, folder)
    assert status == 0
    assert f"* accuracy: {accuracy}%\n" in out


@pytest.mark.parametrize("trainer", ["HeBA", "LwEIB"])
@pytest.mark.parametrize("flags", [[], ["--test-log"]])
def test_only_crashed_runs_are_one_clear_line_and_status_2(assets, capsys, trainer, flags):
    folder = (
        assets / "real/logs" / trainer / "crashed/output" / experiment("train_base", "caltech101", trainer)
    )
    status, out, err = parse(capsys, folder, *flags)
    assert status == 2
    assert re.search(r"seed1: log.txt: .*crashed.*, no ", out)
    assert err.startswith(f"error: no finished run in {folder}")
    assert err.count("\n") == 1


def test_published_logs_make_the_table(assets, capsys):
    status, out, _ = parse(capsys, assets / "real/logs/LwEIB/output")
    assert status == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if line}
    assert rows["caltech101"].startswith("29.17 ± 1.35 16.10 ± 0.42 20.75 ± 0.49 3/3 ")
    assert rows["oxford_pets"].startswith("33.60 ± 1.56 0.00 ± 0.00 0.00 ± 0.00 3/3 ")
    assert rows["Average"].startswith("31.38 8.05 12.81 ")


# The command line.


def test_a_format_for_tables_is_refused_for_a_folder_of_seeds(tmp_path, capsys):
    write_results(tmp_path / "seed1", 80)
    status, out, err = parse(capsys, tmp_path, "--format", "csv")
    assert (status, out) == (2, "")
    assert err.startswith("error: --format csv is for tables; ")


def test_an_unknown_published_method_is_one_line_with_the_known_ones(tmp_path, capsys):
    status, out, err = parse(capsys, tmp_path, "--vs", "lweib", "Hebe")
    assert (status, out) == (2, "")
    assert err.startswith('error: --vs "Hebe": no published numbers; known are CLIP, CoOp, ')
    assert "LwEIB, " in err
    assert err.count("\n") == 1


def test_a_run_where_the_scripts_put_none_is_named(tmp_path, capsys):
    write_protocols(tmp_path, ["dtd"], seeds=1)
    write_results(tmp_path / "mine", 80)
    status, out, err = parse(capsys, tmp_path)
    assert status == 0
    assert "mine" not in out
    assert err == f"in no table: {tmp_path}/mine is not where the scripts put runs\n"


def test_runs_that_lie_deeper_where_no_script_puts_them_are_named(tmp_path, capsys):
    folder = tmp_path / "a/b/c/seed1"
    write_log(folder / "log.txt", in_folder(folder))
    status, out, err = parse(capsys, tmp_path)
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert lines[0] == f"in no table: {folder} is not where the scripts put runs"
    assert lines[1].startswith(f"error: no finished run in {tmp_path}: ")


def test_several_folders_of_seeds_are_shown_one_after_the_other(tmp_path, capsys):
    for name, accuracy in (("a", 80), ("b", 70)):
        write_results(tmp_path / name / "seed1", accuracy)
    out = parse(capsys, tmp_path / "a", tmp_path / "b")[1]
    summaries = [line for line in out.splitlines() if line.startswith("* ")]
    assert summaries == ["* accuracy: 80.00%", "* accuracy: 70.00%"]


# The same run twice.

AGAIN = "found a second time, by a link or another folder that was given: each counts once"


def test_a_folder_given_twice_or_by_a_link_is_shown_once(tmp_path, capsys):
    for seed in (1, 2):
        write_results(tmp_path / "a" / f"seed{seed}", 79 + seed)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for other in (tmp_path / "a", tmp_path / "link"):
        status, out, _ = parse(capsys, tmp_path / "a", other)
        assert status == 0
        assert out.count("* accuracy: 80.50% +- 0.50%") == 1
        assert f"note: {other} is the folder {tmp_path / 'a'}, which counts once\n" in out
    out = parse(capsys, tmp_path / "a", tmp_path / "a/seed2")[1]
    assert f"note: {tmp_path}/a/seed2 lies in {tmp_path}/a, where it counts\n" in out
    assert out.count("accuracy: 81.00%") == 1
    out = parse(capsys, tmp_path, tmp_path / "a", "--multi-exp")[1]
    assert f"note: {tmp_path}/a lies in {tmp_path}, where it counts\n" in out
    assert out.count("* accuracy: 80.50% +- 0.50%") == 1


def test_a_seed_or_an_experiment_that_is_a_link_to_another_counts_once(tmp_path, capsys):
    for name, accuracy in (("b", 80), ("c", 70)):
        for seed in (2, 3):
            write_results(tmp_path / name / f"seed{seed}", accuracy + seed)
    (tmp_path / "b/seed1").symlink_to(tmp_path / "b/seed2")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    out = parse(capsys, tmp_path / "b")[1]
    assert f"note: {tmp_path}/b/seed1 is the folder {tmp_path}/b/seed2, which counts once\n" in out
    assert "* accuracy: 82.50% +- 0.50%\n" in out
    out = parse(capsys, tmp_path, "--multi-exp")[1]
    assert f"note: {tmp_path}/a is the folder {tmp_path}/b, which counts once\n" in out
    assert out.endswith("Average performance\n* accuracy: 77.50%\n")


def test_a_record_that_is_a_link_to_another_seeds_counts_once(tmp_path, capsys):
    for seed in (1, 2):
        write_results(tmp_path / f"seed{seed}", 79 + seed)
    (tmp_path / "seed3").mkdir()
    (tmp_path / "seed3/results.json").symlink_to(tmp_path / "seed2/results.json")
    out = parse(capsys, tmp_path)[1]
    assert (
        f"not counted: {tmp_path}/seed3: results.json is the same file as that of {tmp_path}/seed2\n" in out
    )
    assert "* accuracy: 80.50% +- 0.50%\n" in out


def test_runs_that_a_table_finds_twice_count_once_and_are_told_in_one_line(tmp_path, capsys):
    write_protocols(tmp_path / "output", ["dtd"], seeds=2)
    once = parse(capsys, tmp_path / "output", "--format", "json")[1]
    base = tmp_path / "output/base2new"
    for again, number in ((tmp_path / "output", 21), (base, 6)):
        status, out, err = parse(capsys, tmp_path / "output", again, "--format", "json")
        assert (status, out, err) == (0, once, f"note: {again}: {number} runs {AGAIN}\n")
    seeds = tmp_path / "output" / experiment("train_base", "dtd")
    (seeds / "seed3").symlink_to(seeds / "seed1")
    (tmp_path / "output/a_best").symlink_to(seeds / "seed2")  # where no script puts runs
    status, out, err = parse(capsys, tmp_path / "output", "--format", "json")
    assert (status, out, err) == (0, once, f"note: {tmp_path}/output: 2 runs {AGAIN}\n")


def test_a_wrong_command_line_is_one_line_and_shows_no_control_characters(tmp_path, capsys):
    for argv in (["--output", "a"], ["x", "--\x1b[2J"], ["x", "--format", "\x1b[2J"], []):
        with pytest.raises(SystemExit) as left:
            parse_test_res.main(argv)
        out, err = capsys.readouterr()
        assert (left.value.code, out) == (2, "")
        assert re.fullmatch(r"error: [ -~…]+ \(--help explains the flags\)\n", err)


def test_a_missing_folder_and_a_file_in_place_of_one_are_named_so(tmp_path, capsys):
    (tmp_path / "log.txt").touch()
    assert parse(capsys, tmp_path / "nix") == (2, "", f"error: no such directory: {tmp_path / 'nix'}\n")
    assert parse(capsys, tmp_path / "log.txt")[1:] == ("", f"error: not a directory: {tmp_path}/log.txt\n")


def test_neither_torch_nor_numpy_nor_matplotlib_is_imported(tmp_path):
    write_protocols(tmp_path, ["dtd"], seeds=1)
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import parse_test_res; "
    code += f"parse_test_res.main([{str(tmp_path)!r}]); "
    code += "print([m for m in ('torch', 'numpy', 'matplotlib') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_whoever_reads_may_stop_reading(tmp_path):
    for number in range(300):  # more than a pipe holds
        write_results(tmp_path / f"few_shot/dtd/shots_{number + 1}/HeBA/base2new/seed1", 60)
    command = f'"{sys.executable}" parse_test_res.py "{tmp_path}" --format json | head -1'
    done = subprocess.run(["bash", "-c", command], cwd=SCRIPT.parent, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[\n", "")
