"""The command line: the table, the exit status, one line for each mistake."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets import prepare as command
from datasets.preparation import sources
from tests.conftest import ROOT
from tests.prepare_world import Server, small, tree

pytest_plugins = ["tests.prepare_world"]  # the server


@pytest.fixture
def known(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, and a table of three small data sets of which it serves two."""
    three = (small("EuroSAT", server), small("UCF101", server), small("SUN397", server, "dead"))
    monkeypatch.setattr(sources, "load_sources", lambda: three)
    return server


def test_check_calls_the_cut_real_data_incomplete(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--check", "--root", str(assets / "real" / "data")]) == 1
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines[2:17]]
    assert {row[0]: row[1] for row in table} == {
        source.name: "incomplete" if source.name in ("Caltech101", "EuroSAT") else "missing"
        for source in sources.load_sources()
    }
    eurosat = next(line for line in lines if line.startswith("EuroSAT "))
    for cell in ("10 / 10", "160 / 13,500", "40 / 5,400", "1,000 / 8,100", "prepare eurosat"):
        assert cell in eurosat
    assert any(line.startswith("EuroSAT: split_zhou_EuroSAT.json lists 160 train images") for line in lines)


def test_data_sets_are_prepared_and_checked_one_after_the_other(
    known: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tmp_path / "new" / "data")]
    assert command.main(["eurosat", "UCF101", *root]) == 0
    assert capsys.readouterr().out.count(" ready ") == 2
    assert command.main(["--check", "eurosat", *root]) == 0
    assert command.main(["sun397", "eurosat", *root]) == 1
    out = capsys.readouterr().out
    assert "SUN397: SUN397: http://" in out
    assert "HTTP 404" in out
    assert "SUN397: the official host has not served it since 2025" in out
    assert command.main(["--check", *root]) == 1


def test_check_writes_nothing(known: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["eurosat", "--root", str(tmp_path)])
    images = tmp_path / "eurosat" / "2750"
    (images / "River" / "River_6.jpg").unlink()
    before = tree(tmp_path)
    for folder in (images / "River", images, tmp_path / "eurosat", tmp_path):
        folder.chmod(0o555)
    capsys.readouterr()
    assert command.main(["--check", "eurosat", "--root", str(tmp_path)]) == 1
    assert '1 of 12 images of 2750 missing, e.g. "2750/River/River_6.jpg"' in capsys.readouterr().out
    assert tree(tmp_path) == before
    for folder in (tmp_path, tmp_path / "eurosat", images, images / "River"):
        folder.chmod(0o755)
    assert command.main(["--check", "--root", str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().out


def test_mistakes_are_one_line(known: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["eurosta", "--root", str(tmp_path)]) == 2
    assert 'no data set is called "eurosta"; there are: eurosat, ucf101, sun397' in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert command.main(["eurosat", "--root", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        command.main([])
    assert caught.value.code == 2


def test_a_folder_that_cannot_be_used_does_not_stop_the_others(
    known: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "eurosat").write_text("in the way")
    assert command.main(["eurosat", "ucf101", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert f"EuroSAT: File exists: '{tmp_path}/eurosat'" in out or "EuroSAT: Not a directory" in out
    assert out.count(" ready ") == 1


def test_the_mirror_of_the_environment_is_used(
    known: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEBA_DATA_MIRROR", known.url() + "/")
    assert command.main(["sun397", "--root", str(tmp_path)]) == 0


def test_all_brings_the_descriptions_too(
    known: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.files |= {
        "descriptions/eurosat.py": b'E = {"Forest": ["x"], "River": ["y"]}',
        "descriptions/ucf101.py": b'E = {"Apply_Eye_Makeup": ["x"], "Yo_Yo": ["y"]}',
        "descriptions/sun397.py": b'E = {"abbey": ["x"], "indoor bar": ["y"]}',
    }
    options = ["--mirror", known.url(), "--root", str(tmp_path)]
    assert command.main(["all", *options]) == 0
    assert tree(tmp_path / "descriptions") == ["eurosat.json", "sun397.json", "ucf101.json"]
    assert command.main(["descriptions", "eurosat", *options]) == 0
    (tmp_path / "descriptions" / "eurosat.json").write_text('{"Forest": ["x"]}')
    assert command.main(["descriptions", *options]) == 1


@pytest.mark.parametrize("mirror", ["/mnt/nope", "127.0.0.1:8765"])
def test_a_mirror_that_is_no_address_is_refused(
    mirror: str, known: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["eurosat", "--root", str(tmp_path / "data"), "--mirror", mirror]) == 2
    assert "is no http:// or https:// address" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_names_before_descriptions_are_prepared_too(known: Server, tmp_path: Path) -> None:
    known.files["descriptions/ucf101.py"] = b'E = {"Apply_Eye_Makeup": ["x"], "Yo_Yo": ["y"]}'
    known.files["descriptions/eurosat.py"] = b'E = {"Forest": ["x"], "River": ["y"]}'
    options = ["--mirror", known.url(), "--root", str(tmp_path)]
    assert command.main(["ucf101", "descriptions", "eurosat", *options]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["descriptions", "ucf101"]
    assert tree(tmp_path / "descriptions") == ["eurosat.json", "ucf101.json"]


def test_descriptions_that_another_process_prepares_are_a_failure_of_their_own(
    known: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from datasets.preparation.layout import workspace

    with workspace(tmp_path / "descriptions"):
        assert command.main(["descriptions", "eurosat", "ucf101", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("another process") == 2


def test_an_interrupted_call_says_so(tmp_path: Path) -> None:
    """The real command, cut by Ctrl-C while a server keeps it waiting."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        arguments = ["eurosat", "--root", str(tmp_path), "--mirror", url]
        process = subprocess.Popen(
            [sys.executable, "-m", "datasets.prepare", *arguments],
            cwd=ROOT,
            env=os.environ | {"no_proxy": "127.0.0.1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        with silent.accept()[0]:  # once it is closed the next source is asked
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted; the same command continues"


def test_the_script_runs_from_another_folder_with_data_of_its_own(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    (tmp_path / "my data").symlink_to(assets / "real" / "data")
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "prepare_data.sh"), "--check", "eurosat"],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable, "DATA": "my data"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "160 / 13,500" in done.stdout
    assert "python -m datasets.prepare --root 'my data'" in done.stdout


def test_help_says_what_the_exit_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    out = capsys.readouterr().out
    assert "Exit status: 0" in out
