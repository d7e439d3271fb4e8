"""What a user is told, and the exit code, where a video or a sound can't be used. No weights needed."""

import shutil

import numpy as np
import pytest

from helpers.media_files import bark, images, make_video, make_wav


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("videos") / "good.mp4", images(10, 64, 96), bark(2), fps=5)


@pytest.fixture
def image(tmp_path):
    from PIL import Image

    Image.fromarray(images(1, 64, 96)[0]).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


def refused(moca, tmp_path, *arguments):
    """Run, check that it failed for one clear reason and left nothing behind, and return what it said."""
    ended = moca("segment", *arguments, "-o", tmp_path / "out")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("moca: ")]
    assert len(lines) == 1
    assert not (tmp_path / "out").exists()
    return lines[0]


def test_a_missing_file(moca, tmp_path):
    said = refused(moca, tmp_path, tmp_path / "gone.mp4")
    assert said == f"moca: {tmp_path / 'gone.mp4'}: there is no such file or folder"


def test_a_folder_with_nothing_usable(moca, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "notes.txt").write_text("no video")
    assert "texts: the folder holds no video; looked for .3g2, .3gp" in refused(moca, tmp_path, folder)


def test_a_text_file_named_mp4(moca, tmp_path):
    fake = tmp_path / "fake.mp4"
    fake.write_text("this is a shopping list\n" * 100)
    assert f"moca: {fake} is not a video or sound that FFmpeg can read" in refused(moca, tmp_path, fake)


def test_an_empty_file(moca, tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in refused(moca, tmp_path, tmp_path / "empty.mp4")


def test_a_truncated_mp4_without_its_index(moca, tmp_path, video):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert "cut.mp4 lacks the index (moov) of an MP4 file" in refused(moca, tmp_path, cut)


def test_sound_without_image(moca, tmp_path):
    wav = make_wav(tmp_path / "bark.wav", bark(2))
    assert "give an image to go with it (--image IMAGE --sound" in refused(moca, tmp_path, wav)


def test_a_zero_length_sound(moca, tmp_path, image):
    wav = make_wav(tmp_path / "nothing.wav", [])
    said = refused(moca, tmp_path, "--image", image, "--sound", wav)
    assert "nothing.wav" in said


def test_nan_samples_in_a_sound_file(moca, tmp_path, image):
    sound = bark(2)
    sound[1000:1010] = np.nan
    wav = make_wav(tmp_path / "broken.wav", sound)
    said = refused(moca, tmp_path, "--image", image, "--sound", wav)
    assert "broken.wav holds NaN" in said


def test_nan_samples_in_a_video(moca, tmp_path):
    sound = bark(2)
    sound[-5:] = np.inf
    video = make_video(tmp_path / "broken.mkv", images(10, 64, 96), sound, sound_codec="pcm_f32le", fps=5)
    assert "broken.mkv holds NaN or infinite samples" in refused(moca, tmp_path, video)


def test_in_a_batch_every_bad_input_is_named_and_counted_at_the_end(moca, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text("no video")
    ended = moca(
        "segment", tmp_path / "a.mp4", tmp_path / "gone.mp4", tmp_path / "b.mp4", "-o", tmp_path / "out"
    )
    assert ended.code == 1
    *_, summary, first, second, third = ended.err.splitlines()
    assert summary == "moca: 3 of 3 inputs failed:"
    for line, name in ((first, "gone.mp4"), (second, "a.mp4"), (third, "b.mp4")):
        assert line.startswith(f"  {tmp_path / name}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["segment", "-o", "out"], "give at least one video"),
        (["segment", "x.mp4"], "--out"),
        (
            ["segment", "{video}", "-o", "out", "--fps", "fast"],
            "--fps must be a number or native, found 'fast'",
        ),
        (["segment", "{video}", "-o", "out", "--fps", "-1"], "fps must be a positive number"),
        (["segment", "{video}", "-o", "out", "--limit", "0"], "limit must be at least 1 frame"),
        (["segment", "{video}", "-o", "out", "--start", "2", "--end", "1"], "end must be after start"),
        (["segment", "{video}", "-o", "out", "--device", "abacus"], "'abacus' is no device"),
        (["segment", "{video}", "-o", "out", "--preset", "nobody"], "'nobody' is no preset (lite, "),
        (["segment", "--image", "x.png", "-o", "out"], "--image takes one --sound"),
        (["segment", "{video}", "-o", "out", "--methd", "moca"], "--methd"),
        (["models", "show", "gpt"], "there is no model 'gpt'"),
        (["dance"], "dance"),
        ([], "segment"),
    ],
)
def test_usage_is_exit_code_2_with_a_word_on_what_is_wrong(moca, video, arguments, said):
    ended = moca(*(str(video) if argument == "{video}" else argument for argument in arguments))
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_equal_names_that_can_not_be_told_apart(moca, tmp_path, video):
    for name in ("x.mp4", "x.mov", "x.mp4.avi"):
        shutil.copy(video, tmp_path / name)
    ended = moca("segment", tmp_path, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "would both be written to" in ended.err
