"""What counts of a run's folder: logs of several codes and ages, our records, and what goes wrong in them."""

import json
import os
import re

import pytest

import parse_test_res
from tests.result_trees import experiment, result, steps, write_log, write_results


def parse(capsys: pytest.CaptureFixture, *argv: object) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line."""
    status = parse_test_res.main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    return status, out, err


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
    assert "log.txt-2026-01-03-00-00-00: running, or crashed" in out


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
    os.utime(folder / "seed2" / name, (0, 0))
    why = f"not counted: {folder}/seed2: {name}: crashed or cut, no results.json{epoch}; resume.pth"
    status, out, _ = parse(capsys, folder)
    assert status == 0
    assert why in out
    assert "* accuracy: 80.00% +- 0.00%" in out
    (table,) = json.loads(parse(capsys, tmp_path, "--format", "json")[1])
    assert table["rows"][0]["cells"]["Base" if half == "train_base" else "Novel"]["seeds"] == ["1"]
    assert table["notes"][0].startswith(why)
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
    assert re.search("log.txt-2026-01-02-00-00-00: running.*, no results.json, last epoch 1/1; ", out)
    assert "* accuracy: 84.20% +- 0.00%" in out


# Runs without an end.


def test_a_crash_is_told_with_its_error(tmp_path, capsys):
    write_results(tmp_path / "seed1", 80.0)
    write_log(tmp_path / "seed2/log.txt", OURS + steps(3))
    (tmp_path / "seed2/traceback.txt").write_text("Traceback:\n  …\nValueError: no such class\n\n")
    out = parse(capsys, tmp_path)[1]
    assert "seed2: log.txt: crashed (ValueError: no such class), no results.json, last epoch 3/3\n" in out


def test_the_error_of_an_earlier_try_is_not_taken_for_the_present_ones(tmp_path, capsys):
    write_results(tmp_path / "seed1", 80.0)
    write_log(tmp_path / "seed2/log.txt", OURS + steps(3))
    (tmp_path / "seed2/traceback.txt").write_text("ValueError: long ago\n")
    os.utime(tmp_path / "seed2/traceback.txt", (0, 0))
    assert "seed2: log.txt: running, or crashed " in parse(capsys, tmp_path)[1]


def test_a_log_that_nobody_writes_any_more_is_not_called_running(tmp_path, capsys):
    write_results(tmp_path / "seed1", 80.0)
    write_log(tmp_path / "seed2/log.txt", steps(3))
    os.utime(tmp_path / "seed2/log.txt", (0, 0))
    assert (
        'seed2: log.txt: crashed or cut, no "Finish training", last epoch 3/3\n' in parse(capsys, tmp_path)[1]
    )
