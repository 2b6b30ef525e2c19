"""What counts of a run's folder: logs of several codes and ages, our records, and what goes wrong in them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import parse_test_res
from reporting.read import read_log, read_results
from tests.result_trees import (
    cut,
    experiment,
    make_record,
    ours,
    parse,
    theirs,
    write_log,
    write_results,
    written,
)

pytestmark = pytest.mark.usefixtures("written_run")


def test_the_programs_own_record_and_log_are_read_as_they_are(written_run):
    record = json.loads(written("novel", "results.json"))
    run = read_results(written_run / "novel/results.json", "accuracy")
    assert (run.why, run.value, run.record) == ("", record["accuracy"], record)
    assert (run.dataset, run.seed, run.classes, run.split) == ("Caltech101", 1, "new", "test")
    assert (run.trainer, run.shots, run.model_dir, run.is_test) == ("HeBA", 4, "base", True)
    assert run.backbone == record["backbone"]
    assert run.other == {"base_scale": record["other"]["base_scale"]["accuracy"]}
    for part in ("base", "novel"):
        log, told = (written_run / part / name for name in ("log.txt", "results.json"))
        log, told = read_log(log, "accuracy", as_test=False), read_results(told, "accuracy")
        for name in ("dataset", "seed", "classes", "split", "trainer", "shots", "model_dir", "backbone"):
            assert getattr(log, name) == getattr(told, name)
        assert log.why == "counts only by its results.json"


# Logs of other codes, and what goes wrong in them.


@pytest.mark.parametrize("end", ["Finish training\n", "Finished training\n"])
@pytest.mark.parametrize(("accuracy", "printed"), [("84.2", "84.20"), ("84.27", "84.27"), ("100", "100.00")])
def test_logs_of_both_dassl_versions_and_any_decimals_are_read(tmp_path, capsys, end, accuracy, printed):
    write_log(tmp_path / "seed1/log.txt", theirs(accuracy).replace("Finish training\n", end))
    assert f"* accuracy: {printed}%" in parse(capsys, tmp_path)[1]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda log: " \n", "log.txt: empty"),
        # this one is a validation's accuracy, of a run that crashed later
        (lambda log: log.replace("Finish training\n", ""), 'no "Finish training", last epoch 3/3'),
        (
            lambda log: log[: log.index("=> result")],
            'no "* accuracy: …%" after "Finish training"',
        ),
        (lambda log: log.replace("50.0%", "nan%"), 'log.txt: accuracy is "nan", not a percentage'),
        (lambda log: log.replace("y: 50.0%", "y: -5%"), "log.txt: accuracy is -5.0, not a percentage"),
        (lambda log: log.replace("50.0%", "1e400%"), "log.txt: accuracy is Infinity, not a percentage"),
        (lambda log: log.replace("50.0%", "9" * 10**6 + "%"), "log.txt: accuracy is Infinity, not a "),
        (lambda log: cut(log)[:-200] + "\0" * 4096, "log.txt: holds NUL characters: it is damaged"),
    ],
)
def test_an_unfinished_or_damaged_seed_is_named_and_not_averaged(tmp_path, capsys, damage, why):
    write_log(tmp_path / "seed1/log.txt", theirs("80.0"))
    write_log(tmp_path / "seed2/log.txt", damage(theirs("50.0")))
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0
    assert f"not counted: {tmp_path}/seed2: " in out
    assert why in out
    assert max(map(len, out.splitlines())) < 1000
    assert "* accuracy: 80.00%" in out


def test_a_folder_without_log_is_named_and_seeds_are_in_numeric_order(tmp_path, capsys):
    for seed in (10, 9):
        write_log(tmp_path / f"seed{seed}/log.txt", theirs("80.0"))
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
    write_log(tmp_path / "seed1/log.txt", theirs("10.0"))
    write_log(tmp_path / "seed1/log.txt-2026-01-02-00-00-00", theirs("20.0"))
    write_log(tmp_path / "seed1/log.txt-2026-01-03-00-00-00", cut(theirs("30.0")))
    out = parse(capsys, tmp_path)[1]
    assert "seed1/log.txt-2026-01-02-00-00-00. accuracy: 20.00%." in out
    assert "log.txt-2026-01-03-00-00-00: running, or crashed" in out


def test_a_later_test_in_a_training_folder_does_not_replace_its_result(tmp_path, capsys):
    """An --eval-only run on other classes into the same folder must not become the base accuracy."""
    write_log(tmp_path / "seed1/log.txt", theirs("90.0"))
    write_log(tmp_path / "seed1/log.txt-2026-01-02-00-00-00", theirs("10.0", "novel"))
    assert "* accuracy: 90.00%" in parse(capsys, tmp_path)[1]
    assert "* accuracy: 10.00%" in parse(capsys, tmp_path, "--test-log")[1]


def second_result(log: str, accuracy: str, of: str = "test") -> str:
    """The log with its last result once more, with another accuracy and of another set of images."""
    again = log[log.rindex("Evaluate on the") :].replace("*test*", f"*{of}*")
    return log + re.sub(r"(\* accuracy): [\d.]+%", rf"\1: {accuracy}%", again)


def test_a_log_that_tests_base_and_novel_classes_after_training_is_not_read_as_base(tmp_path, capsys):
    log = tmp_path / experiment("train_base", "caltech101", shots=4) / "seed1/log.txt"
    why = "2 results (90.0%, 60.0%): which classes each is of is not told"
    for of in ("test", "new"):
        write_log(log, second_result(theirs("90.0"), "60.0", of))
        status, out, _ = parse(capsys, tmp_path)
        assert status == 2
        assert f"not counted: {log.parent}: log.txt: {why}" in out
    write_log(log, second_result(theirs("90.0"), "90.0"))  # the same test twice
    assert parse(capsys, log.parent)[1].count("accuracy: 90.00%") == 2
    before, after = theirs("90.0").split("Finish training\n")
    validated = second_result(before + after, "70.0", "val").replace(before, before + "Finish training\n")
    write_log(log, validated + after)
    assert "accuracy: 90.00%" in parse(capsys, log.parent)[1]
    # PromptKD: its test images are of the novel classes, its validation images of the base classes
    modal = theirs("90.0", SUBSAMPLE_CLASSES="all").replace(
        "\nTRAINER:\n", "\nTRAINER:\n  MODAL: base2novel\n"
    )
    write_log(log, modal)
    assert "log.txt: TRAINER.MODAL is base2novel: " in parse(capsys, tmp_path)[1]


def test_a_tests_log_with_two_different_results_is_not_read(tmp_path, capsys):
    log = tmp_path / experiment("test_new", "caltech101", shots=4) / "seed1/log.txt"
    write_log(log, second_result(theirs("90.0", "novel"), "60.0"))
    status, out, _ = parse(capsys, tmp_path)
    why = "3 results (90.0%, 90.0%, 60.0%): which classes each is of is not told"  # two are of HeBA's scales
    assert status == 2
    assert f"not counted: {log.parent}: log.txt: {why}" in out
    write_log(log, second_result(theirs("90.0", "novel"), "90.00"))  # the same test twice
    assert "* accuracy: 90.00%" in parse(capsys, log.parent)[1]
    for of in ("val", "train"):  # before the test, and after it
        other = second_result(theirs("70.0", "novel"), "70.0", of)
        other = other[other.rindex("Evaluate on the") :]
        at = (told := theirs("90.0", "novel")).index("Evaluate on the")
        for text in (told[:at] + other + told[at:], told + other):
            write_log(log, text)
            assert "* accuracy: 90.00%" in parse(capsys, log.parent)[1]
        write_log(log, told[:at] + other)
        assert f"seed1: it was evaluated on {of}, not on test" in parse(capsys, tmp_path)[1]


@pytest.mark.parametrize("part", ["base", "novel"])
@pytest.mark.parametrize(("shown", "end"), [("none", "=> result\n"), ("nan%", "* accuracy: nan%\n")])
def test_a_log_whose_last_result_has_no_number_is_not_read(tmp_path, capsys, part, shown, end):
    log = second_result(theirs("90.0", part), "60.0").replace("accuracy: 60.0%", "accuracy: nan%")
    write_log(tmp_path / "seed1/log.txt", log[: log.rindex(end)] + end)
    status, out, _ = parse(capsys, tmp_path)
    assert status == 2
    assert f"90.0%, {shown}): which classes each is of is not told" in out


@pytest.mark.parametrize("length", [5000, 10**6])
@pytest.mark.parametrize(("name", "key"), [("trainer", "trainer"), ("NAME", "DATASET.NAME")])
def test_a_log_with_a_name_that_is_none_is_not_read(tmp_path, capsys, name, key, length):
    write_log(tmp_path / "seed1/log.txt", theirs("90.0", **{name: "x" * length}))
    status, out, _ = parse(capsys, tmp_path)
    assert status == 2
    assert f"log.txt: {key} has {length:,} characters; at most 4,096 are possible\n" in out


# Logs that passed through something else.


@pytest.mark.parametrize(
    "passed_through",
    [
        lambda log: log.encode("utf-16"),  # Windows PowerShell's redirection
        lambda log: log.encode("utf-16-le"),
        lambda log: log.encode("utf-16-be"),
        lambda log: log.encode("utf-32"),
        lambda log: log.encode("utf-8-sig"),
        lambda log: log.replace("\n", "\r\n").encode(),
        lambda log: log.replace("\n", "\r\n").encode("utf-16")[:-1],  # cut in the middle of a character
        lambda log: re.sub("^.*$", "\x1b[1;32m\\g<0>\x1b[0m", log, flags=re.M).encode(),
        lambda log: re.sub("^", "\x1b]0;training\x07\x1b[K", log, flags=re.M).encode(),
        lambda log: re.sub("$", "\x1b(B\x1b[m", log, flags=re.M).encode(),  # tput sgr0
        lambda log: re.sub(
            "^.*$", "\x1b7\x1b]8;;http://x\x1b\\\\\\g<0>\x1b]8;;\x1b\\\\\x1b8", log, flags=re.M
        ).encode(),
        lambda log: re.sub("^", "[2026-01-01 10:00:00] ", log, flags=re.M).encode(),
        lambda log: re.sub(
            "^", "2026-01-01T10:00:00.123456789Z ", log, flags=re.M
        ).encode(),  # docker logs -t
        lambda log: re.sub("^", "Jan  1 10:00:00 ", log, flags=re.M).encode(),  # ts
        lambda log: re.sub("^", "[2026-01-01 10:00:00,123][train][INFO] - ", log, flags=re.M).encode(),
        lambda log: re.sub("^", "2026-01-01 10:00:00,123 - INFO - ", log, flags=re.M).encode("utf-16"),
        lambda log: b"\n" * 2_000_000 + log.encode(),
        lambda log: log.replace("\n", " " * 200_000 + "\n \n", 5).encode(),
    ],
)
def test_encodings_colours_and_time_stamps_are_read(tmp_path, passed_through):
    path = tmp_path / "log.txt"
    path.write_bytes(passed_through(theirs("84.2")))
    run = read_log(path, "accuracy", as_test=False)
    assert (run.why, run.value, run.is_test) == ("", 84.2, False)
    told = (run.dataset, run.seed, run.classes, run.split, run.shots, run.trainer)
    assert told == ("Caltech101", 1, "base", "test", 4, "HeBA")


@pytest.mark.parametrize("before", ["INFO:root:", "worker-0 | ", "(train pid=3) ", "\x1b\x07"])
@pytest.mark.parametrize(("part", "end"), [("base", "Finish training"), ("novel", "=> result")])
def test_a_log_with_something_else_in_its_lines_is_not_called_running(tmp_path, capsys, before, part, end):
    write_log(tmp_path / "seed1/log.txt", re.sub("^", lambda _: before, theirs("84.2", part), flags=re.M))
    status, out, _ = parse(capsys, tmp_path, *["--test-log"] * (part == "novel"))
    assert status == 2
    shown = before.replace("\x1b\x07", r"\x1b\x07")
    assert f'log.txt: its end stands inside a line: "{shown}{end}"; take out what stands before' in out


def test_logs_of_two_runs_in_one_file_are_not_read(tmp_path, capsys):
    for first, second in (("base", "novel"), ("novel", "base"), ("base", "base")):
        log = cut(theirs("90.0", first), "* total" if first == "novel" else "epoch [3/3]") + theirs(
            "80.0", second
        )
        write_log(tmp_path / "seed1/log.txt", log)
        for flags in ([], ["--test-log"]):
            status, out, _ = parse(capsys, tmp_path, *flags)
            assert status == 2
            assert "log.txt: holds the logs of 2 runs, one after the other\n" in out


# results.json.


def test_results_json_is_preferred_for_its_precision(tmp_path, capsys):
    for seed, accuracy in ((1, 84.2105), (2, 84.2205)):
        write_results(tmp_path / f"seed{seed}", accuracy, unknown={"later": 1})
        write_log(tmp_path / f"seed{seed}/log.txt", theirs("84.2"))
    write_log(tmp_path / "seed3/log.txt", theirs("84.5"))  # another code's run beside ours
    out = parse(capsys, tmp_path)[1]
    assert f"file: {tmp_path}/seed1/results.json. accuracy: 84.21%. " in out
    assert f"file: {tmp_path}/seed3/log.txt. accuracy: 84.50%. " in out
    assert "* accuracy: 84.31% +- 0.13%" in out
    assert "* error: " in parse(capsys, tmp_path, "--keyword", "error")[1]


DEEP = 100_000
DAMAGED = {
    "": "cannot be read (Expecting value: line 1 column 1 (char 0))",
    "[1]": "it is a list, not an object",
    "[" * DEEP + "]" * DEEP: "cannot be read (nested too deeply)",
    "{}": "no 'accuracy' in it",
    '{"accuracy": 80, "accuracy": 90}': 'cannot be read ("accuracy" stands there twice; keep one of them)',
    '{"phases": {"train": {"seconds": 1, "seconds": 2}}}': 'cannot be read ("seconds" stands there twice',
    '{"accuracy": null}': "accuracy is null, not a percentage",
    '{"accuracy": NaN}': "accuracy is NaN, not a percentage",
    '{"accuracy": 1' + "0" * 400 + "}": "accuracy is a number beyond 1e18, not a percentage",
    '{"accuracy": 1' + "0" * 5000 + "}": "cannot be read (",
    '{"accuracy": 1e400}': "accuracy is Infinity, not a percentage",
}
WRONG = [
    ("accuracy", "?", 'accuracy is "?", not a percentage'),
    ("accuracy", True, "accuracy is true, not a percentage"),
    ("accuracy", -5, "accuracy is -5, not a percentage"),
    ("accuracy", 100.01, "accuracy is 100.01, not a percentage"),
    ("accuracy", [84], "accuracy is a list, not a percentage"),
    ("phases", [1], "phases is a list, not an object"),
    ("phases", {"train": 3}, "phases.train is 3, not an object"),
    ("phases", {"train": {"seconds": "60"}}, 'phases.train.seconds is "60", not an amount'),
    ("phases", {"test": {"seconds": 10**400}}, "phases.test.seconds is a number beyond 1e18, not an amount"),
    ("phases", {"test": {"peak_memory": -1}}, "phases.test.peak_memory is -1, not an amount"),
    ("trainable_parameters", "many", 'trainable_parameters is "many", not an amount'),
    ("trainer", ["HeBA"], "trainer is a list, not a text"),
    ("command", ["python", "train.py"], "command is a list, not a text"),
    ("eval_only", "no", 'eval_only is "no", not true or false'),
    ("shots", "16", 'shots is "16", not a whole number'),
    ("seed", True, "seed is true, not a whole number"),
    ("seed", 10**400, "seed is a number beyond 1e18, not a whole number"),
    ("other", [], "other is a list, not an object"),
    ("other", {"base_scale": {"accuracy": "x"}}, 'other.base_scale.accuracy is "x", not a percentage'),
    ("per_class", {}, "per_class is an object, not a list"),
    ("per_class", [3], "per_class[0] is 3, not an object"),
    ("per_class", [{"classname": "ant", "correct": 1}], "per_class[0].total is null, not a count"),
    (
        "per_class",
        [{"classname": "ant", "correct": 3, "total": 2}],
        "per_class[0] has 3 right answers of 2",
    ),
    ("correct", "6", 'correct is "6", not a count'),
    ("correct", -1, "correct is -1, not a count"),
    ("correct", True, "correct is true, not a count"),
    ("total", 9.5, "total is 9.5, not a count"),
    ("total", 10, "it has 2400001 right answers of 10"),
    ("correct", 2399000, "accuracy is 80.0, but 2399000 of 3000000 images are right"),
    ("error_rate", 19.9, "accuracy is 80.0, but error_rate is 19.9"),
    (
        "per_class",
        [{"classname": "ant", "correct": 1, "total": 2}],
        "correct is 2400001, but 1 in the sum of per_class",
    ),
    (
        "other",
        {"base_scale": {"accuracy": 70.0, "correct": 6, "total": 9}},
        "other.base_scale.accuracy is 70.0, but 6 of 9 images are right",
    ),
    # sizes that no program writes
    ("trainer", "x" * 10**6, "trainer has 1,000,000 characters; at most 4,096 are possible"),
    ("command", "x" * 10**7, "command has 10,000,000 characters; at most 2,097,152 are possible"),
    ("other", {"x" * 10**6: {}}, "a name in other has 1,000,000 characters; at most 4,096 are possible"),
    ("other", {str(n): {} for n in range(10**5)}, "other has 100,000 entries; at most 100 are possible"),
    ("phases", {"x" * 10**6: {}}, "a name in phases has 1,000,000 characters; at most 4,096 are possible"),
    (
        "per_class",
        [{"classname": "x" * 10**6, "correct": 1, "total": 2}],
        "per_class[0].classname has 1,000,000 characters; at most 4,096 are possible",
    ),
]


def refused(capsys: pytest.CaptureFixture, seed: Path) -> str:
    """Why the record in a seed's folder is not used; the log beside it is used in the table and alone."""
    write_log(seed / "log.txt", theirs("84.2"))
    status, out, _ = parse(capsys, seed.parent)
    assert status == 0
    assert "* accuracy: 84.20%" in out
    (note,) = [line for line in out.splitlines() if line.startswith(f"note: {seed}: results.json: ")]
    assert note.endswith("; log.txt is used")
    table = parse(capsys, seed.parents[6])[1]
    assert note.removeprefix("note: ") in table
    assert "84.20" in table
    return note.removeprefix(f"note: {seed}: results.json: ").removesuffix("; log.txt is used")


@pytest.fixture
def seed_folder(tmp_path) -> Path:
    folder = tmp_path / experiment("train_base", "caltech101", shots=4) / "seed1"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("content", "why"), DAMAGED.items(), ids=range(len(DAMAGED)))
def test_a_broken_results_json_is_named_and_the_log_is_used(seed_folder, capsys, content, why):
    (seed_folder / "results.json").write_text(content)
    assert refused(capsys, seed_folder).startswith(why)


@pytest.mark.parametrize(("name", "value", "why"), WRONG, ids=range(len(WRONG)))
def test_a_record_with_a_value_that_no_program_writes_is_passed_by(seed_folder, capsys, name, value, why):
    write_results(seed_folder, 80.0, **{name: value})
    assert refused(capsys, seed_folder) == why


def test_a_record_of_no_images_has_no_accuracy(seed_folder, capsys):
    write_results(seed_folder, 80.0, correct=0, total=0, per_class=[])
    assert refused(capsys, seed_folder) == "accuracy is 80.0, but 0 of 0 images are right"


def test_a_record_whose_accuracy_is_rounded_or_that_has_no_counts_is_read(seed_folder, capsys):
    for told in (
        {"accuracy": 66.67, "error_rate": 33.33, "correct": 6, "total": 9, "per_class": None},
        dict.fromkeys(("correct", "total", "per_class", "error_rate")),
    ):
        write_results(seed_folder, 80.0, **told)
        assert "results.json. accuracy: " in parse(capsys, seed_folder.parent)[1]


@pytest.mark.parametrize("name", ["results.json", "log.txt"])
def test_a_file_larger_than_any_log_or_record_is_not_read(tmp_path, capsys, name):
    write_log(tmp_path / "seed1/log.txt", theirs("80.0"))
    (tmp_path / "seed2").mkdir()
    with (tmp_path / "seed2" / name).open("wb") as file:
        file.truncate(2**28 + 1)
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0
    size = {"results.json": 32, "log.txt": 256}[name]
    assert f"{tmp_path}/seed2: {name}: cannot be read (larger than {size} MiB)" in out


def test_a_record_in_utf_16_is_read(seed_folder, capsys):
    (seed_folder / "results.json").write_bytes(json.dumps(make_record(seed_folder, 80.0)).encode("utf-16"))
    assert "results.json. accuracy: 80.00%. " in parse(capsys, seed_folder.parent)[1]


@pytest.mark.parametrize(
    ("half", "part", "after", "epoch"),
    [
        ("train_base", "base", "Elapsed", ", last epoch 3/3"),
        ("test_new", "novel", "* macro_f1", ""),
        # killed in its second evaluation: what stands there is the other scale's accuracy
        ("test_new", "novel", "* accuracy", ""),
    ],
)
@pytest.mark.parametrize("name", ["log.txt", "log.txt-2026-01-02-00-00-00"])
def test_a_log_of_ours_does_not_count_without_its_results_json(
    tmp_path, capsys, half, part, after, epoch, name
):
    folder = tmp_path / experiment(half, "dtd")
    for seed in (1, 2):
        write_log(folder / f"seed{seed}" / name, cut(ours("84.2", part), after))
    write_results(folder / "seed1", 80.0)
    (folder / "seed2/resume.pth.tar").touch()
    os.utime(folder / "seed2" / name, (0, 0))
    why = f"not counted: {folder}/seed2: {name}: crashed or cut, no results.json{epoch}; "
    why += "resume.pth.tar is there: the same command goes on from it"
    status, out, _ = parse(capsys, folder)
    assert status == 0
    assert why in out
    assert "* accuracy: 80.00%" in out
    (table,) = json.loads(parse(capsys, tmp_path, "--format", "json")[1])
    assert table["rows"][0]["cells"]["Base" if half == "train_base" else "Novel"]["seeds"] == ["1"]
    assert table["notes"][0].startswith(why)
    (folder / "seed1/results.json").unlink()
    assert parse(capsys, folder)[0] == parse(capsys, folder, "--test-log")[0] == 2


def test_a_broken_results_json_beside_a_log_of_ours_is_not_counted(tmp_path, capsys):
    write_log(tmp_path / "seed1/log.txt", ours())
    (tmp_path / "seed1/results.json").write_text("{}")
    status, out, _ = parse(capsys, tmp_path)
    assert status == 2
    why = "results.json: no 'accuracy' in it; log.txt: counts only by its results.json\n"
    assert f"not counted: {tmp_path}/seed1: {why}" in out


def test_another_codes_log_counts_beside_an_unfinished_one_of_ours(tmp_path, capsys):
    quoting = theirs("84.2").replace("Loading trainer", "a word on VLM-HeBA: a run is finished when\nLoading")
    write_log(tmp_path / "seed1/log.txt", quoting)
    write_log(tmp_path / "seed1/log.txt-2026-01-02-00-00-00", ours("10.0"))
    out = parse(capsys, tmp_path)[1]
    assert re.search("log.txt-2026-01-02-00-00-00: running.*, no results.json, last epoch 3/3; ", out)
    assert "* accuracy: 84.20%" in out


# Runs without an end.


@pytest.mark.parametrize(
    ("is_old", "why"),
    [(False, "crashed (ValueError: no such \\x1b[31mclass), no "), (True, "running, or crashed ")],
)
def test_a_crash_is_told_with_its_error_unless_that_is_of_an_earlier_try(tmp_path, capsys, is_old, why):
    write_results(tmp_path / "seed1", 80.0)
    write_log(tmp_path / "seed2/log.txt", cut(ours()))
    (tmp_path / "seed2/traceback.txt").write_text("Traceback:\n  …\nValueError: no such \x1b[31mclass\n\n")
    if is_old:
        os.utime(tmp_path / "seed2/traceback.txt", (0, 0))
    assert f"seed2: log.txt: {why}" in parse(capsys, tmp_path)[1]


# What cannot be read, and what must not reach a terminal.


@pytest.fixture
def locked(monkeypatch) -> list[str]:
    """Names of folders and files that nobody may read, not even root."""
    names: list[str] = []

    def guarded(real):
        def call(path, *args, **kwargs):
            if Path(os.fsdecode(path)).name in names:
                raise PermissionError(13, "Permission denied", os.fsdecode(path))
            return real(path, *args, **kwargs)

        return call

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    monkeypatch.setattr(Path, "read_bytes", guarded(Path.read_bytes))
    return names


def test_an_unreadable_folder_is_named_everywhere(tmp_path, capsys, locked):
    folder = tmp_path / experiment("train_base", "dtd")
    for seed in (1, 2):
        write_results(folder / f"seed{seed}", 80.0)
    locked.append("seed2")
    status, out, _ = parse(capsys, folder)
    assert status == 0
    assert f"not counted: {folder}/seed2: cannot be read (Permission denied)\n" in out
    status, out, err = parse(capsys, tmp_path)
    assert status == 0
    assert "80.00" in out
    assert err == f"in no table: {folder}/seed2 cannot be read (Permission denied)\n"
    locked[:] = [folder.parent.name]
    status, out, err = parse(capsys, tmp_path)
    assert (status, out) == (2, "")
    assert err.splitlines()[0] == f"in no table: {folder.parent} cannot be read (Permission denied)"
    status, out, err = parse(capsys, folder.parent)
    where = " (HEBA_TRACEBACK=1 shows where)"
    assert (status, err) == (2, f"error: [Errno 13] Permission denied: '{folder.parent}'{where}\n")


@pytest.mark.parametrize("name", ["results.json", "log.txt"])
def test_an_unreadable_file_is_named(tmp_path, capsys, locked, name):
    write_results(tmp_path / "seed1", 80.0)
    write_log(tmp_path / "seed1/log.txt", theirs("70.0"))
    (tmp_path / "seed1/log.txt-2026-01-02-00-00-00").mkdir()  # no log
    locked.append(name)
    out = parse(capsys, tmp_path)[1]
    if name == "results.json":
        assert f"{tmp_path}/seed1: results.json: cannot be read (Permission denied); log.txt is used" in out
    else:
        assert "results.json. accuracy: 80.00%. " in out


def test_a_record_that_is_no_file_is_named(tmp_path, capsys):
    for seed in range(1, 5):
        write_results(tmp_path / f"seed{seed}", 80.0)
        if seed > 1:
            (tmp_path / f"seed{seed}/results.json").unlink()
    (tmp_path / "seed2/results.json").mkdir()
    (tmp_path / "seed3/results.json").symlink_to("results.json")
    (tmp_path / "seed4/results.json").symlink_to(os.devnull)
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0
    for seed in (2, 3, 4):
        assert f"not counted: {tmp_path}/seed{seed}: results.json: not a file, or a broken link\n" in out


EVIL = "\x1b[2J\x1b]0;x\x07\x9b31m\x7f\u202eevil"
SHOWN = r"\x1b[2J\x1b]0;x\x07\x9b31m\x7f\u202eevil"


@pytest.mark.parametrize("style", ["text", "markdown", "latex", "csv", "json"])
def test_names_with_escape_sequences_never_reach_the_terminal_raw(tmp_path, capsys, style):
    output = tmp_path / EVIL
    for trainer in ("HeBA", EVIL):
        for half in ("train_base", "test_new"):
            folder = output / experiment(half, "dtd", trainer)
            name = {"base_scale" + EVIL: {"accuracy": 70}}
            write_results(folder / "seed1", 80.0, backbone=EVIL, command=EVIL, other=name, trainer=EVIL)
            write_log(folder / "seed2/log.txt", cut(theirs()))
            (folder / "seed2/traceback.txt").write_text(f"ValueError: {EVIL}")
    write_results(output / EVIL / "mine", 80.0)
    status, out, err = parse(capsys, tmp_path, "--format", style, "--cost")
    assert status == 0
    both = out + err
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", both)
    assert SHOWN in both.replace("\\\\", "\\") or style == "latex"
    folder = output / experiment("train_base", "dtd", EVIL)
    status, out, err = parse(capsys, folder)
    assert status == 0
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err)
    assert SHOWN in out
    _, _, err = parse(capsys, output / "missing")
    assert SHOWN in err


# A folder's name may hold any bytes but / and NUL: here bytes of no encoding, and a line that is no result.
HOSTILE = os.fsdecode(b"\x1b[2J\xff\x9b\n* accuracy: 99.99%\r") + "\x9b\u202e\u2067\uffff"
ASCII = {"PYTHONIOENCODING": "ascii"}
C = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize(
    ("environment", "flags", "single"),
    [
        ({}, (), True),
        (ASCII, (), False),
        (C, ("--format", "csv"), False),
        (C, ("--format", "csv"), True),
        (ASCII, ("--keyword", HOSTILE), False),
        ({}, ("--keyword", HOSTILE), True),
    ],
)
def test_any_name_is_printed_harmlessly_in_any_encoding(tmp_path, environment, flags, single):
    seeds = tmp_path / HOSTILE / experiment("train_base", "dtd", HOSTILE)
    write_results(
        seeds / "seed1", 80.0, trainer=HOSTILE, other={HOSTILE: {"accuracy": 70}}, model_dir=HOSTILE
    )
    (seeds / "seed2").mkdir()
    (seeds / "seed2/results.json").write_text(
        json.dumps({HOSTILE: 1})[:-1] + ", " + json.dumps({HOSTILE: 1})[1:]
    )
    (seeds / "seed3").symlink_to(seeds / "seed1")
    (tmp_path / HOSTILE / "none").mkdir()
    (tmp_path / HOSTILE / "none/log.txt").touch()
    (tmp_path / HOSTILE / HOSTILE).symlink_to(tmp_path / HOSTILE / "none")
    if single and "--format" in flags:
        flags = ("--format", HOSTILE)
    command = [sys.executable, parse_test_res.__file__, seeds if single else tmp_path, *flags]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True)
    both = (done.stdout + done.stderr).decode()
    assert done.returncode == (2 if "--keyword" in flags or HOSTILE in flags else 0)
    assert done.returncode or "80.0" in both
    assert r"\x1b[2J" in both
    assert "Traceback" not in both
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2067\uffff]", both)
    assert not [line for line in both.splitlines() if line.startswith("* accuracy: 99")]
