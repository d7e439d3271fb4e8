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


def test_presets_and_extras_are_told_as_they_are(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MOCA_AVS_WEIGHTS", str(tmp_path))  # a folder without models
    monkeypatch.setattr(checkup, "EXTRAS", {"odd": (("a_library_nobody_has",), "odd things")})
    main(["doctor"])
    said = capsys.readouterr().out
    assert "note  preset imagebind: can't run yet, it needs imagebind (not fetched)" in said
    assert "note  preset languagebind: can't run yet" in said
    assert "note  extra odd: not here (a_library_nobody_has); odd things needs it" in said
    assert "pip install 'moca-avs[odd]'" in said
