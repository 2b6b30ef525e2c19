"""How all commands end: one line and a status for what a user can cure, whatever the streams are."""

import ast
import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import command_line
from command_line import describe, interrupting_signals, names_file
from tests.conftest import ROOT

# Each command with a line that it understands, what it calls first, and whether it can be continued.
COMMANDS = {
    "train": ([], "choose_dassl", True),
    "predict": (["photo.jpg"], "find_pictures", False),
    "reproduce": (["base2new"], "output_folder", True),
    "datasets.prepare": (["dtd"], "run", True),
    "demo.make_data": (["--root", "data"], "make", True),
    "demo.pretrain": (["--out", "."], "pretrain", True),
}
COMMANDS |= {name: (["."], "find_places", False) for name in ("parse_test_res", "plot_results")}


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_with_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, first, again = COMMANDS[name]
    module = importlib.import_module(name)
    for error, status, said in (
        (full(), 2, "error: [Errno 28] No space left on device: '/some/file': make room, or write elsewhere"),
        (MemoryError(), 2, "error: out of memory (MemoryError): "),
        (RecursionError("too deep"), 2, "error: too deep: is a file nested thousands of levels deep?"),
        (ValueError("wrong\nvalue"), 2, "error: wrong value (HEBA_TRACEBACK=1 shows where)"),
        (KeyboardInterrupt(), 130, "interrupted; the same command" if again else "interrupted"),
    ):
        monkeypatch.setattr(module, first, lambda *_, error=error, **__: throw(error))
        assert module.main(arguments) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(said)
    monkeypatch.setattr(module, first, lambda *_, **__: throw(RuntimeError("a fault of the program")))
    with pytest.raises(RuntimeError):
        module.main(arguments)
    monkeypatch.setattr(module, first, lambda *_, **__: throw(ValueError("wrong")))
    monkeypatch.setenv("HEBA_TRACEBACK", "1")
    with pytest.raises(ValueError, match="wrong"):
        module.main(arguments)


def throw(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_an_interrupt_while_it_is_imported(name: str) -> None:
    """What stands before the import of command_line takes no time."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    before, programs = [], []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            programs.append(ast.unparse(node.body))
        elif isinstance(node, ast.Import | ast.ImportFrom) and not programs:
            before.append(ast.unparse(node))
    assert programs == [ast.unparse(ast.parse(f"import command_line\ncommand_line.run('{name}')").body)]
    assert set(before) <= {"import sys", "from pathlib import Path"}


def python(code: str, shell: str = '"$@"', **environment: str) -> subprocess.CompletedProcess:
    """Runs code in a process whose streams are as the shell's redirections say."""
    command = ["sh", "-c", f"exec {shell}", "sh", sys.executable, "-c", code]
    env = os.environ | environment
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def program(body: str) -> str:
    """A program with a command of its own, run as the others are."""
    return (
        "import sys, types, command_line\n"
        f"@command_line.one_line_errors()\ndef main(argv):\n    {body}\n    return 0\n"
        "sys.modules['mine'] = types.SimpleNamespace(main=main)\ncommand_line.run('mine')"
    )


def test_an_interrupt_of_the_imports_is_one_line(tmp_path: Path) -> None:
    code = "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass\n"
    (tmp_path / "slow.py").write_text(code)  # that swallows what a signal raises, as torch's import may
    done = python("import command_line; command_line.run('slow')", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_signals_after_the_first_are_ignored_until_the_end() -> None:
    body = """import os, signal, time
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
        print("cleaned up")"""
    done = python(program(body))
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", "SIGTERM: stopped\n")
    late = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGTERM)"
    assert python(program(late)).returncode == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('x.so: failed to map segment from shared object')", "error: out of memory ("),
        (
            "raise OSError('x.so: cannot allocate memory')".replace("cannot", "Cannot"),
            "error: out of memory (",
        ),
        (
            "import no_such.part",
            'error: the Python package "no_such" is not installed: bash scripts/setup.sh',
        ),
    ],
)
def test_imports_that_fail_for_the_machines_reasons_are_one_line(
    code: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "wanting.py").write_text(code)
    done = python("import command_line; command_line.run('wanting')", PYTHONPATH=str(tmp_path))
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(said)
    assert describe(ImportError("x.so: failed to map segment"), "lower X").endswith("a machine that has more")
    assert describe(ModuleNotFoundError("No module", name="trainers.gone")) == ""  # a fault of the program


def test_a_long_value_is_shortened_in_its_middle(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"--root {'x' * 5000} is no folder; give one"
    for line in (describe(ValueError(text)), command_line.fail(text) and capsys.readouterr().err):
        assert len(line) < 1010
        assert line.strip().removeprefix("error: ").startswith("--root xxx")
        assert line.strip().endswith("xxx is no folder; give one")


def test_closed_streams_swallow_what_is_written() -> None:
    body = "print('a'); print('b', file=sys.stderr); sys.stdout.flush()"
    for shell in ('"$@" >&-', '"$@" 2>&-', '"$@" >&- 2>&-'):
        done = python(program(body), shell)
        assert (done.returncode, done.stderr.strip("b\n")) == (0, "")
    assert python(program("raise ValueError('wrong')"), '"$@" >&- 2>&-').returncode == 2


def test_a_full_disk_under_the_output_is_one_line_and_a_reader_that_left_is_none() -> None:
    for size in (10, 100_000):  # one that fits into the buffer fails when it is flushed
        done = python(program(f"print('a' * {size})"), '"$@" >/dev/full')
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "No space left on device: 'the standard output': make room, or write elsewhere" in line
        piped = python(
            program(f"import time; time.sleep(0.2); print('a' * {size})"), 'sh -c \'"$@" | true\' sh "$@"'
        )
        assert piped.stderr == ""
    assert python(program("raise ValueError('wrong')"), '"$@" 2>/dev/full').returncode == 2


def test_what_an_encoding_lacks_is_escaped() -> None:
    done = python(program("print('Größe'); raise ValueError('Größe')"), PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stdout == "Gr\\xf6\\xdfe\n"
    assert done.stderr.startswith("error: Gr\\xf6\\xdfe")


CUDA = """CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which
1 is free. If reserved but unallocated memory is large set PYTORCH_ALLOC_CONF=x"""
WORKER = """Caught RuntimeError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "x.py", line 1, in y
RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you"""


def test_all_ways_to_run_out_of_memory_say_what_to_lower() -> None:
    errors = [
        RuntimeError(CUDA),
        RuntimeError(WORKER),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate"),
    ]
    errors.append(RuntimeError("DataLoader worker (pid(s) 7) is killed by signal: Killed. "))
    for ask in (lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.empty(2**60, dtype=np.uint8)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            ask()
        errors.append(caught.value)
    for error in errors:
        line = describe(error, "lower X")
        assert line.startswith("out of memory (")
        assert line.endswith("): lower X")
        assert len(line) < 220
    assert describe(RuntimeError(CUDA), "lower X") == "out of memory (CUDA out of memory): lower X"
    assert describe(RuntimeError("size mismatch")) == ""


def test_the_error_of_a_write_gets_the_name_that_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space.*'here'"), names_file("here"):
        raise OSError(errno.ENOSPC, "No space")
    with pytest.raises(OSError, match="No space.*'/some/file'"), names_file("here"):
        raise full()
    with pytest.raises(FileNotFoundError, match=str(tmp_path)), names_file("here"):
        (tmp_path / "missing").read_text()


def test_stop_signals_interrupt_unless_they_are_ignored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        with pytest.raises(KeyboardInterrupt, match=signal.Signals(number).name), interrupting_signals():
            os.kill(os.getpid(), number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupting_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before[signal.SIGHUP])
    assert {number: signal.getsignal(number) for number in before} == before


def test_without_a_second_signal_of_the_platform_and_outside_the_main_thread_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_line, "STOP_SIGNALS", [signal.SIGTERM])  # Windows
    before = signal.getsignal(signal.SIGHUP)
    with interrupting_signals():
        assert signal.getsignal(signal.SIGHUP) == before
    heard: list[object] = []

    def elsewhere() -> None:
        with interrupting_signals():
            heard.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert heard == [signal.getsignal(signal.SIGTERM)]


def test_files_nested_too_deep_are_named(tmp_path: Path) -> None:
    """By each reader of a JSON file that a user may have written."""
    from clip.weights import _quick_gelu_in_metadata
    from datasets import image_folder
    from datasets.base import read_split
    from datasets.preparation import check
    from runner.record import read_record
    from runner.state import recorded_weights

    deep = "[" * 100_000
    for name in ("results.json", "classnames.json", "split.json"):
        (tmp_path / name).write_text(deep)
    for read, name in (
        (lambda: read_record(str(tmp_path)), "results.json"),
        (lambda: image_folder.read_names(tmp_path, {"a"}), "classnames.json"),
        (lambda: read_split(tmp_path / "split.json", tmp_path), "split.json"),
        (lambda: check.read_split(tmp_path / "split.json"), "split.json"),
        (lambda: _quick_gelu_in_metadata({"quick_gelu": deep}, tmp_path / "clip.pt"), "clip.pt"),
    ):
        with pytest.raises(ValueError, match=name):
            read()
    assert recorded_weights(tmp_path) is None


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "²", "1_000"])
def test_what_is_no_number_of_things_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_line.Parser()
    parser.add_argument("--jobs", type=command_line.positive)
    assert parser.parse_args(["--jobs", "12"]).jobs == 12
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--jobs", text])
    assert f'--jobs: "{text}" is no such number; set it to 1 or more' in capsys.readouterr().err
