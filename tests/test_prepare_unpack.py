"""Archives of other people cannot write outside their folder, fill the disk, or leave half of themselves."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.preparation import unpack as module
from datasets.preparation.unpack import unpack
from fileio.errors import Damaged, NoRoom
from tests.prepare_world import failing, tar, tree, zipped

OUTSIDE = ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "a/.."]


def refused(archive: Path, words: str, **options: int) -> None:
    """Unpacking ends in one line with these words, and leaves nothing."""
    folder = archive.parent
    before = tree(folder)
    with pytest.raises(Damaged, match=words) as caught:
        unpack(archive, folder / "out", **options)
    assert "\n" not in str(caught.value)
    assert tree(folder) == before
    assert not (folder / "out").exists()
    assert not (folder / "out.partial").exists()


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_outside_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    for kind, content in (("zip", zipped({"good.txt": b"x", name: b"x"})), ("tar", tar({name: b"x"}))):
        (folder / f"archive.{kind}").write_bytes(content)
        refused(folder / f"archive.{kind}", "leads out of the folder")
    assert "evil.txt" not in "".join(tree(tmp_path))


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../other"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "inside.txt"),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, target: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive.tar", "w") as file:
        member = tarfile.TarInfo("folder/link")
        member.type, member.linkname = kind, target
        file.addfile(member)
        inside = tarfile.TarInfo("folder/link/file.txt")  # what would follow the link
        inside.size = 1
        file.addfile(inside, io.BytesIO(b"x"))
    refused(tmp_path / "archive.tar", "is a link or a device")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as file:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "/etc/passwd")
    refused(tmp_path / "archive.zip", "is a link or a device")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / f"archive.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("zeros", bytes(1 << 22))
    else:
        archive.write_bytes(tar({"zeros": bytes(1 << 22)}))
    refused(archive, "far more than its size allows", limit=1 << 20)
    unpack(archive, tmp_path / "out", limit=1 << 22)


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "true.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(1 << 22))
    lie = (
        (tmp_path / "true.zip")
        .read_bytes()
        .replace((1 << 22).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    )
    (tmp_path / "archive.zip").write_bytes(lie)
    refused(tmp_path / "archive.zip", "archive.zip", limit=1 << 20)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_too_many_files_and_folders_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / f"archive.{kind}"
    if kind == "zip":
        archive.write_bytes(zipped({"a/": b"", "b": b""}))
    else:
        with tarfile.open(archive, "w") as file:
            for name, type_ in (("a", tarfile.DIRTYPE), ("b", tarfile.REGTYPE)):
                member = tarfile.TarInfo(name)
                member.type = type_
                file.addfile(member)
    monkeypatch.setattr(module, "MAX_MEMBERS", 1)
    refused(archive, "it holds more than 1 files")
    monkeypatch.setattr(module, "MAX_MEMBERS", 2)
    unpack(archive, tmp_path / "out")


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    for kind, pack in (("zip", zipped), ("tar.gz", tar)):
        (tmp_path / f"archive.{kind}").write_bytes(pack({"a" * 300: b"x"}))
        refused(tmp_path / f"archive.{kind}", "File name too long")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_huge_header_of_a_tar_is_refused(kind: bytes, pack: Callable[..., bytes], tmp_path: Path) -> None:
    member = tarfile.TarInfo("header")
    member.type, member.size = kind, 3 << 30
    (tmp_path / "archive").write_bytes(pack(member.tobuf(tarfile.USTAR_FORMAT) + bytes(4096)))
    refused(tmp_path / "archive", "a header of 3.22GB")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_packed_with_another_method_is_refused(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w", method) as file:
        file.writestr("a", b"x")
    refused(tmp_path / "archive.zip", "another method")


def test_too_little_memory_is_the_archives_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive.tar").write_bytes(tar({"a": b"x"}))
    monkeypatch.setattr(tarfile.TarFile, "extract", failing(print, 0, MemoryError()))
    refused(tmp_path / "archive.tar", "too much memory")


@pytest.mark.parametrize("share", [0, 0.2, 0.6, 0.95])
@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz"])
def test_cut_archives_are_refused(mode: str, share: float, tmp_path: Path) -> None:
    content = {f"folder/{number}.bin": os.urandom(3000) for number in range(7)}
    whole = zipped(content) if mode == "zip" else tar(content, mode)
    if mode == "w":
        whole = whole[: 7 * 3584]  # without the blocks of zeros at the end, which carry nothing
    (tmp_path / "archive").write_bytes(whole[: int(len(whole) * share)])
    refused(tmp_path / "archive", "archive")


@pytest.mark.parametrize(
    "content", [b"<html>quota exceeded</html>", b"\x1f\x8b" + bytes(50), b"PK\x03\x04" * 20]
)
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(content)
    refused(tmp_path / "archive.zip", "archive.zip is cut or")


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "archive.tar").write_bytes(tar({"a": b"x", "a/b": b"x"}))
    refused(tmp_path / "archive.tar", "a file and a folder of one name")


def test_backslashes_in_a_zip_separate_folders(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(zipped({"2750\\Forest\\1.jpg": b"x"}))
    unpack(tmp_path / "archive.zip", tmp_path / "out")
    assert tree(tmp_path / "out") == ["2750/Forest/1.jpg"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_end_in_the_middle_leaves_nothing(
    kind: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"a": b"x", "b": b"x"}
    (tmp_path / "archive").write_bytes(zipped(content) if kind == "zip" else tar(content))
    for file in (zipfile.ZipFile, tarfile.TarFile):
        monkeypatch.setattr(file, "extract", failing(file.extract, 1, error))
    with pytest.raises(NoRoom if isinstance(error, OSError) else KeyboardInterrupt):
        unpack(tmp_path / "archive", tmp_path / "out")
    assert tree(tmp_path) == ["archive"]
    assert os.listdir(tmp_path) == ["archive"]


def test_everything_else_arrives_without_the_litter_of_macos(tmp_path: Path) -> None:
    content = {"photos/a b.jpg": b"1", "photos/é/2.jpg": b"22", "./x.txt": b"", "__MACOSX/photos/._a": b"3"}
    for kind, data in (
        ("zip", zipped(content)),
        ("tar", tar({**content, "photos/.DS_Store": b"4"}, "w:bz2")),
    ):
        (tmp_path / f"archive.{kind}").write_bytes(data)
        unpack(tmp_path / f"archive.{kind}", tmp_path / kind)
        assert tree(tmp_path / kind) == ["photos/a b.jpg", "photos/é/2.jpg", "x.txt"]
        assert (tmp_path / kind / "photos/é/2.jpg").read_bytes() == b"22"


def test_modes_and_owners_of_an_archive_do_not_matter(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive.tar", "w") as file:
        for name, kind, mode in (
            ("folder", tarfile.DIRTYPE, 0o000),
            ("folder/tool", tarfile.REGTYPE, 0o4777),
            ("folder/secret", tarfile.REGTYPE, 0o000),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid = kind, mode, 12345
            file.addfile(member)
    unpack(tmp_path / "archive.tar", tmp_path / "out")
    (tmp_path / "out" / "own").touch()
    (tmp_path / "out" / "own_folder").mkdir()
    for name, like in (("folder", "own_folder"), ("folder/tool", "own"), ("folder/secret", "own")):
        status, usual = (tmp_path / "out" / name).stat(), (tmp_path / "out" / like).stat()
        assert (status.st_uid, status.st_mode) == (usual.st_uid, usual.st_mode)


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive.tar", "w", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("negative")
        member.pax_headers = {"size": str(-(1 << 40))}
        file.addfile(member)
    refused(tmp_path / "archive.tar", "archive.tar is")


def test_a_python_whose_tarfile_has_no_filter_unpacks_and_refuses_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILTER", {})
    archive = tmp_path / "archive.tar"
    archive.write_bytes(tar({"a/b": b"x"}))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b").read_bytes() == b"x"
    (tmp_path / "out" / "a" / "b").unlink()
    for name in ("../out/a/b", str(tmp_path / "out" / "a" / "b")):
        archive.write_bytes(tar({name: b"x"}))
        with pytest.raises(Damaged, match="leads out of the folder"):
            unpack(archive, tmp_path / "other")
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "out")
    with tarfile.open(archive, "w") as file:
        file.addfile(link)
    with pytest.raises(Damaged, match="is a link or a device"):
        unpack(archive, tmp_path / "other")
    assert not list((tmp_path / "out" / "a").iterdir())


def test_no_room_is_said_before_a_zip_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive.zip").write_bytes(zipped({"a": bytes(1000)}))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: Usage)
    with pytest.raises(NoRoom, match=r"no room left to unpack archive.zip .*1\.00kB are needed"):
        unpack(tmp_path / "archive.zip", tmp_path / "out")
    assert tree(tmp_path) == ["archive.zip"]


class Usage:
    """What ``shutil.disk_usage`` says of a disk that is nearly full."""

    free = 10
