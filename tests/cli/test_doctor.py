from moca_avs.cli import doctor as checkup
from moca_avs.cli import main
from moca_avs.hub import debian


def test_doctor_finds_what_is_needed_here(capsys):
    main(["doctor"])
    said = capsys.readouterr().out
    for what in ("torch", "av", "video", "cache", "preset lite", "device: auto chooses"):
        assert f"ok    {what}" in said
    assert "bad   torch" not in said


def test_what_is_missing_is_named_with_what_to_do_and_exit_code_1(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(checkup, "NEEDED", ("a_library_nobody_has",))
    monkeypatch.setattr(debian, "available", lambda: False)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "bad   a_library_nobody_has: can't be imported" in said
    assert "bad   cache: the cache folder" in said
    assert "set MOCA_AVS_CACHE to a folder you may write to" in said
    assert "note  apt-get: not here: `moca data stamps` needs Debian or Ubuntu" in said
