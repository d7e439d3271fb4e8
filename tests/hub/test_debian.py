import io
import tarfile
from pathlib import Path

import pytest

from helpers.tiny_archives import make_deb
from moca_avs.errors import DataError
from moca_avs.hub import debian
from moca_avs.hub.cache import download_dir

FILES = {"usr/share/tiny/a.txt": "hello"}


def test_a_package_put_there_by_hand_is_unpacked_once(cache, tmp_path):
    made = make_deb(tmp_path, "tiny-media", "1:2.3-4", FILES)
    made.rename(download_dir() / made.name)
    root = debian.unpacked("tiny-media")
    assert (root / "usr/share/tiny/a.txt").read_text() == "hello"
    assert cache in root.parents
    assert debian.version("tiny-media") == "1:2.3-4"
    (download_dir() / made.name).unlink()
    assert debian.unpacked_all(["tiny-media"]) == {"tiny-media": root}


def test_a_name_that_begins_like_another_is_not_taken_for_it(cache, tmp_path, monkeypatch):
    made = make_deb(tmp_path, "tiny-media-extra", "1", FILES)
    made.rename(download_dir() / made.name)
    debian.unpacked("tiny-media-extra")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="this machine has no apt-get"):
        debian.unpacked("tiny-media")


def test_without_apt_it_is_not_available_and_says_what_to_do(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert not debian.available()
    with pytest.raises(DataError, match=r"use Debian or Ubuntu .* put tiny-media_\*\.deb into"):
        debian.unpacked("tiny-media")


def test_a_broken_package_is_named(cache):
    (download_dir() / "tiny-media_1_all.deb").write_bytes(b"no package")
    with pytest.raises(DataError, match="could not be unpacked"):
        debian.unpacked("tiny-media")


def test_what_leads_out_of_the_package_is_not_there(cache, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    links = {
        "usr/share/out": str(tmp_path),
        "usr/share/up": "../../../../../..",
        "usr/share/near": "tiny/a.txt",
    }
    made = make_deb(tmp_path, "tiny-media", "1", FILES, links)
    made.rename(download_dir() / made.name)
    root = debian.unpacked("tiny-media")
    assert (root / "usr/share/near").read_text() == "hello"
    assert sorted(path.name for path in (root / "usr/share").iterdir()) == ["near", "tiny"]


def test_a_path_out_of_the_package_is_refused(cache, tmp_path):
    for name in ("../evil.txt", "usr/../../evil.txt"):
        deb_of_tar(download_dir() / "tiny-media_1_all.deb", {name: b"evil"})
        with pytest.raises(DataError, match=r"could not be unpacked: .*outside the destination"):
            debian.unpacked("tiny-media")
    assert not list(cache.rglob("evil.txt"))


def test_a_package_that_would_fill_the_disk_is_refused(cache, monkeypatch):
    monkeypatch.setattr(debian, "PACKAGE_BYTES", 1 << 20)
    deb_of_tar(download_dir() / "tiny-media_1_all.deb", {"usr/bomb": bytes(1 << 24)})
    assert (download_dir() / "tiny-media_1_all.deb").stat().st_size < 1 << 18
    with pytest.raises(DataError, match=r"could not be unpacked: it would take more than"):
        debian.unpacked("tiny-media")
    assert not list(cache.rglob("bomb"))


def deb_of_tar(target, files):
    """A package whose data are a tar with any names: what `dpkg-deb --build` would not make."""
    parts = {"debian-binary": b"2.0\n"}
    control = b"Package: tiny-media\nVersion: 1\nArchitecture: all\nMaintainer: T <t@t>\nDescription: t\n"
    for part, held in {"control.tar.gz": {"control": control}, "data.tar.gz": files}.items():
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name, data in held.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        parts[part] = packed.getvalue()
    with target.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, data in parts.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data)
            file.write(b"\n" * (len(data) % 2))


def test_version_of_what_is_not_there(cache):
    with pytest.raises(DataError, match="call unpacked"):
        debian.version("tiny-media")


@pytest.mark.stamps
def test_a_failed_download_gives_the_manual_step(cache, monkeypatch):
    monkeypatch.setattr(
        debian, "CONFIGURATION", debian.CONFIGURATION + 'Dir::Etc::SourceParts "/dev/null";\n'
    )
    with pytest.raises(DataError, match=r"could not be fetched .* run `apt-get download tiny-media`"):
        debian.unpacked("tiny-media")


@pytest.mark.stamps
def test_a_real_package_touches_nothing_outside_the_cache(cache):
    sources = [Path("/var/lib/apt/lists"), Path("/var/cache/apt"), Path("/var/cache/apt/archives")]
    before = {p: (p.stat().st_mtime_ns, sorted(p.iterdir())) for p in sources if p.is_dir()}
    root = debian.unpacked("tuxpaint-data")
    assert any(root.rglob("*.png"))
    assert debian.version("tuxpaint-data")[0].isdigit()
    after = {p: (p.stat().st_mtime_ns, sorted(p.iterdir())) for p in before}
    assert after == before
