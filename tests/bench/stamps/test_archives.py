"""Reading files out of packages. The archives are written here, byte by byte, by an independent writer."""

import io
import struct
import tarfile
import zipfile
import zlib

import pytest
import zstandard

from helpers.archive_files import write_cat, write_rcc
from moca_avs.errors import DataError
from moca_avs_bench.stamps import archives
from moca_avs_bench.stamps.archives import read_member

FILES = {"gcompris/src/activities/cows/resource/moo.ogg": b"moo" * 50, "gcompris/src/readme.txt": b"words"}


PACKINGS = {
    "raw": lambda data: (0, data),
    "zlib": lambda data: (1, struct.pack(">I", len(data)) + zlib.compress(data)),
    "zstd": lambda data: (4, zstandard.ZstdCompressor().compress(data)),
}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("packing", PACKINGS)
def test_rcc_gives_every_file_back(tmp_path, version, packing):
    (tmp_path / "usr").mkdir()
    write_rcc(tmp_path / "usr" / "cows.rcc", FILES, version, PACKINGS[packing])
    for name, data in FILES.items():
        assert read_member(tmp_path, f"rcc:{name}") == data


def test_cat_sounds_are_named_by_number_and_title(tmp_path):
    riffs = write_cat(tmp_path / "sounds.cat")
    assert read_member(tmp_path, "cat:00_Cow") == riffs[0]
    assert read_member(tmp_path, "cat:01_Tropical_Bird_2") == riffs[1]


def test_zip_members_are_found_with_and_without_their_first_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "public.zip", "w") as archive:
        archive.writestr("audio/actor/horse.ogg", b"neigh")
    assert read_member(tmp_path, "zip:actor/horse.ogg") == b"neigh"
    assert read_member(tmp_path, "zip:audio/actor/horse.ogg") == b"neigh"


def test_photos_are_read_out_of_a_compressed_tar(tmp_path):
    with tarfile.open(tmp_path / "theme-1.0.tar.gz", "w:gz") as archive:
        for name in ("theme/team.jpg", "theme/readme.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    assert read_member(tmp_path, "tar.gz:theme/team.jpg") == b"theme/team.jpg"
    with pytest.raises(DataError, match="readme"):  # only images are indexed
        read_member(tmp_path, "tar.gz:theme/readme.txt")


def test_plain_files_are_read_and_missing_ones_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"here")
    assert read_member(tmp_path, "a.txt") == b"here"
    with pytest.raises(DataError, match=r"b\.txt"):
        read_member(tmp_path, "b.txt")
    with pytest.raises(DataError, match=r"no \.zip file .* x/y"):
        read_member(tmp_path, "zip:x/y")


def test_a_file_that_is_no_resource_is_named(tmp_path):
    (tmp_path / "cows.rcc").write_bytes(b"something else entirely")
    with pytest.raises(DataError, match=r"cows\.rcc"):
        read_member(tmp_path, "rcc:gcompris/src/activities/cows/resource/moo.ogg")


def refused(root, name, words):
    with pytest.raises(DataError, match=words):
        read_member(root, name)


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_a_resource_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1000)
    write_rcc(tmp_path / "a.rcc", {"big": bytes(5000), "small": bytes(900)}, 1, PACKINGS[kind])
    refused(tmp_path, "rcc:big", r"a\.rcc would take")
    assert read_member(tmp_path, "rcc:small") == bytes(900)


def test_zips_and_tars_that_unpack_to_more_than_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/big", bytes(5000))
    refused(tmp_path, "zip:big", r"x/big in .*a\.zip would take")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("skipped.txt")  # no image, but decompressed on the way to one
        entry.size = 5000
        archive.addfile(entry, io.BytesIO(bytes(5000)))
    refused(tmp_path, "tar.gz:a.jpg", r"skipped\.txt in .*a\.tar\.gz would take")


def test_a_resource_tree_that_contains_itself_is_refused(tmp_path):
    write_rcc(tmp_path / "a.rcc", {"x/y": b"1", "z": b"2"}, 1, PACKINGS["raw"])
    data = bytearray((tmp_path / "a.rcc").read_bytes())
    struct.pack_into(">II", data, 20 + 14 + 6, 2, 1)  # the folder x: its children are x itself and z
    (tmp_path / "a.rcc").write_bytes(data)
    refused(tmp_path, "rcc:x/y", r"a\.rcc is a damaged archive .*two folders")


def test_members_are_never_written_and_links_lead_nowhere(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "a.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("link.jpg")
        entry.type, entry.linkname = tarfile.SYMTYPE, "../secret.jpg"
        archive.addfile(entry)
        entry = tarfile.TarInfo("../out.jpg")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"out"))
    refused(tmp_path / "in", "tar.gz:link.jpg", r"no \.tar\.gz file")
    assert read_member(tmp_path / "in", "tar.gz:../out.jpg") == b"out"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar.gz", "in", "secret.jpg"]


@pytest.mark.parametrize("kind", ["rcc", "cat", "zip", "tar.gz"])
def test_archives_cut_short_are_named(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "rcc":
        write_rcc(path, FILES, 1, PACKINGS["raw"])
    elif kind == "cat":
        write_cat(path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/b", b"1")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("a.jpg"))
    path.write_bytes(path.read_bytes()[: 18 if kind == "cat" else 24])
    with pytest.raises(DataError, match=rf"a\.{kind}.*(damaged|no)"):
        read_member(tmp_path, f"{kind}:x")
