"""A file arrives from the first source that delivers it whole, whatever the others do."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.preparation.run import prepare
from datasets.preparation.sources import File
from tests.prepare_world import Server, images_of, picture, small, with_files, zipped

pytest_plugins = ["tests.prepare_world"]  # the server


@pytest.mark.parametrize("behaviour", ["dead", "wrong", "page"])
def test_the_next_source_is_taken_when_one_fails(behaviour: str, server: Server, tmp_path: Path) -> None:
    source = small("EuroSAT", server)
    for path in ("2750", source.split):
        file = next(part.files[0] for part in source.parts if path in part.paths)
        bad = file.sources[0].replace("/good/", f"/{behaviour}/")
        source = with_files(source, path, replace(file, sources=(bad, *file.sources)))
    assert prepare(source, tmp_path).state == "ready"
    assert [path.partition("/")[0] for path, _ in server.log].count(behaviour) == 2


def test_a_host_that_does_not_answer_is_named(server: Server, tmp_path: Path) -> None:
    source = small("EuroSAT", server)
    closed = "http://127.0.0.1:9/EuroSAT.zip"
    source = with_files(source, "2750", replace(source.parts[1].files[0], sources=(closed,)))
    report = prepare(source, tmp_path)
    assert report.state == "missing"
    assert f"2750: {closed}: no connection" in "\n".join(report.problems)


def test_a_mirror_comes_first(server: Server, tmp_path: Path) -> None:
    source = small("UCF101", server, "dead")
    assert prepare(source, tmp_path, mirror=server.url()).state == "ready"
    assert {path.partition("/")[0] for path, _ in server.log} == {"good"}


def test_a_wrong_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    source = small("OxfordPets", server, "wrong")
    report = prepare(source, tmp_path)
    assert report.state == "missing"
    assert "images.tar.gz has the MD5" in "\n".join(report.problems)
    assert "images" not in os.listdir(tmp_path / "oxford_pets")
    assert prepare(small("OxfordPets", server), tmp_path).state == "ready"


def test_archives_put_there_by_hand_are_used_and_kept(server: Server, tmp_path: Path) -> None:
    source = small("OxfordFlowers", server, "dead")
    folder = tmp_path / "oxford_flowers"
    folder.mkdir()
    (folder / "102flowers.tgz").write_bytes(server.files["oxford_flowers/102flowers.tgz"])
    (folder / source.split).write_bytes(server.files[f"oxford_flowers/{source.split}"])
    assert prepare(source, tmp_path).state == "ready"
    assert (folder / "102flowers.tgz").exists()


def test_the_zip_of_a_whole_data_set_stands_in_for_each_of_its_parts(server: Server, tmp_path: Path) -> None:
    source = small("StanfordCars", server, "dead")
    members = {f"stanford_cars/{path}": picture() for path in images_of(source)}
    members[f"stanford_cars/{source.split}"] = server.files[f"stanford_cars/{source.split}"]
    server.files["stanford_cars/stanford_cars.zip"] = zipped(members)
    whole = File("stanford_cars.zip", (server.url(path="stanford_cars/stanford_cars.zip"),))
    parts = tuple(
        replace(part, files=(*part.files, whole)) if part.required else part for part in source.parts
    )
    assert prepare(replace(source, parts=parts), tmp_path).state == "ready"
    assert [path for path, _ in server.log].count("good/stanford_cars/stanford_cars.zip") == 1


def test_google_drive_is_reached_through_gdown(server: Server, tmp_path: Path) -> None:
    source = small("UCF101", server)
    file = replace(source.parts[1].files[0], sources=("gdrive:ucf101/UCF-101-midframes.zip",))
    assert prepare(with_files(source, "UCF-101-midframes", file), tmp_path).state == "ready"
    gone = replace(file, sources=("gdrive:nothing",))
    report = prepare(with_files(source, "UCF-101-midframes", gone), tmp_path / "again")
    assert "UCF-101-midframes: https://drive.google.com/file/d/nothing/view: " in "\n".join(report.problems)


@pytest.mark.parametrize("kind", ["", "datasets/"])
def test_hugging_face_is_reached_through_its_library(
    kind: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url("hub"))
    source = small("EuroSAT", server)
    server.files[f"{kind}someone/data/resolve/v1/deep/eurosat.zip"] = server.files["eurosat/EuroSAT.zip"]
    file = File("eurosat.zip", (f"hf:{kind}someone/data/deep/eurosat.zip@v1",))
    assert prepare(with_files(source, "2750", file), tmp_path).state == "ready"
    gone = File("eurosat.zip", (f"hf:{kind}someone/data/gone.zip@v1",))
    report = prepare(with_files(source, "2750", gone), tmp_path / "again")
    assert f"2750: hf:{kind}someone/data/gone.zip@v1: " in "\n".join(report.problems)
    assert "404" in "\n".join(report.problems)
