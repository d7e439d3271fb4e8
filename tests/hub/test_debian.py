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
