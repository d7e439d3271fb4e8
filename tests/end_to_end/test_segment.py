"""`moca segment` on small generated videos, as a user meets it: real weights, real files."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.media_files import bark, images, look, make_video, make_wav
from helpers.raw_videos import make_raw_video
from moca_avs import Segmentation
from moca_avs.io.frames import probe
from moca_avs.io.results import is_complete

pytestmark = pytest.mark.weights

FROZEN = ("--method", "frozen", "--device", "cpu")
QUICK = ("--set", "refine=none")  # no proposals


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Good and bad inputs side by side."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "band.mp4", images(15, 64, 96), bark(3), fps=5)
    make_video(folder / "mute.mp4", images(10, 48, 64), fps=5)
    make_video(folder / "tiny.mov", images(10, 1, 1), bark(2), codec="png", sound_codec="pcm_s16le", fps=5)
    make_video(folder / "huge.mkv", images(1, 4320, 7680), bark(1), codec="mjpeg", fps=1)
    eight = np.stack([bark(2, 96000, seed) for seed in range(8)])
    make_video(
        folder / "eight.mkv",
        images(10, 64, 96),
        eight,
        rate=96000,
        sound_codec="pcm_f32le",
        layout="7.1",
        fps=5,
    )
    (folder / "fake.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def batch(videos, tmp_path_factory):
    """Everything at once, in its own process: (exit code, stdout, stderr, out)."""
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-c", "import sys; from moca_avs.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, "segment", str(videos), str(videos / "gone.mp4"), "-o", str(out), *FROZEN, "--profile"],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr, out


def test_in_a_batch_the_good_are_done_and_the_bad_listed_at_the_end(batch, videos):
    code, said, complained, out = batch
    assert code == 1
    names = ["band", "eight", "huge", "mute", "tiny"]
    assert sorted(path.name for path in out.iterdir()) == [*names[:3], "index.jsonl", *names[3:]]
    assert all(is_complete(out / name) for name in names)
    lines = [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]
    assert sorted(line["input"] for line in lines) == sorted(
        str(videos / name)
        for name in ("band.mp4", "eight.mkv", "fake.mp4", "gone.mp4", "huge.mkv", "mute.mp4", "tiny.mov")
    )
    assert {line["state"] for line in lines if "fake" in line["input"] or "gone" in line["input"]} == {
        "failed"
    }
    *_, summary, first, second = complained.splitlines()
    assert summary == "moca: 2 of 7 inputs failed:"
    assert first == f"  {videos / 'gone.mp4'}: there is no such file or folder"
    assert second.startswith(f"  {videos / 'fake.mp4'} is not a video")
    assert said.startswith("device: cpu (asked for)\n")
    assert f"{videos / 'band.mp4'}: 3 frames -> {out / 'band'}\n" in said


def test_progress_and_profile_are_shown(batch):
    _, said, complained, _ = batch
    assert "band.mp4: 100%" in complained
    assert "3/3" in complained
    assert {"read", "method", "masks", "overlay"} <= set(said.replace(",", " ").split())


def test_a_result_has_everything_at_source_size_with_the_source_sound(batch):
    out = batch[-1] / "band"
    assert sorted(path.name for path in out.iterdir()) == [
        "heatmaps", "heatmaps.safetensors", "masks", "overlay.mp4", "result.json",
    ]  # fmt: skip
    for kind in ("masks", "heatmaps"):
        assert sorted(path.name for path in (out / kind).iterdir()) == [f"{i:06d}.png" for i in range(3)]
        assert all(np.asarray(Image.open(path)).shape == (64, 96) for path in (out / kind).iterdir())
    width, height, frames, seconds, channels, pixels, codec = look(out / "overlay.mp4")
    assert (width, height, frames, channels, pixels, codec) == (96, 64, 15, 1, "yuv420p", "h264")
    assert seconds == pytest.approx(3.0, abs=0.1)
    result = json.loads((out / "result.json").read_text())
    assert result["settings"]["method"] == "frozen"
    assert len(result["settings"]["encoder"]["weights"]) == 64
    assert Path(result["settings"]["input"]["source"]).name == "band.mp4"
    assert [frame["time"] for frame in result["frames"]] == [0.5, 1.5, 2.5]


def test_masks_json_and_reloaded_result_agree(batch):
    out = batch[-1] / "band"
    found = Segmentation.load(out)
    assert found.masks.any((1, 2)).all()
    for index, mask in enumerate(found.masks):
        image = np.asarray(Image.open(out / "masks" / f"{index:06d}.png"))
        assert set(np.unique(image)) <= {0, 255}
        assert np.array_equal(image > 0, mask)


def test_a_video_without_sound_gets_empty_masks_and_the_reason(batch, videos):
    found = Segmentation.load(batch[-1] / "mute")
    assert found.reasons == ("no sound", "no sound")
    assert not found.masks.any()
    assert f"{videos / 'mute.mp4'}: 2 frames, 2 no sound -> " in batch[1]
    assert look(batch[-1] / "mute" / "overlay.mp4")[4] == 0


@pytest.mark.parametrize(
    ("name", "size", "frames"), [("tiny", (1, 1), 2), ("huge", (7680, 4320), 1), ("eight", (96, 64), 2)]
)
def test_extreme_sizes_and_sounds_work(batch, name, size, frames):
    found = Segmentation.load(batch[-1] / name)
    assert found.masks.shape == (frames, size[1], size[0])
    assert all(reason != "silent" for reason in found.reasons)
    even = tuple(side + side % 2 for side in size)
    assert look(batch[-1] / name / "overlay.mp4")[:2] == even


def test_finished_results_are_skipped_and_said_so(moca, videos, batch):
    before = (batch[-1] / "band" / "result.json").stat().st_mtime_ns
    ended = moca("segment", videos / "band.mp4", "-o", batch[-1], *FROZEN)
    assert ended.code == 0
    assert f"band.mp4: skipped, {batch[-1] / 'band'} is finished (--overwrite does it again)" in ended.out
    assert (batch[-1] / "band" / "result.json").stat().st_mtime_ns == before


def test_limit_start_end_and_native_choose_the_frames(moca, videos, tmp_path):
    def times(*options):
        ended = moca("segment", videos / "band.mp4", "-o", tmp_path, "--overwrite", *FROZEN, *options)
        assert ended.code == 0, ended.err
        frames = look(tmp_path / "band" / "overlay.mp4")[2]
        return Segmentation.load(tmp_path / "band").times.round(3).tolist(), frames

    assert times("--fps", "native", "--limit", "3") == ([0.0, 0.2, 0.4], 3)
    assert times("--start", "1", "--limit", "1") == ([1.5], 5)
    assert times("--fps", "2", "--start", "0.5", "--end", "1.5") == (
        [0.75, 1.25],
        6,
    )  # one is on screen at .5


def test_a_image_with_a_sound(moca, tmp_path):
    Image.fromarray(images(1, 40, 60)[0]).save(tmp_path / "dog.png")
    wav = make_wav(tmp_path / "bark.wav", bark(2.5))
    ended = moca("segment", "--image", tmp_path / "dog.png", "--sound", wav, "-o", tmp_path / "out", *FROZEN)
    assert ended.code == 0, ended.err
    found = Segmentation.load(tmp_path / "out" / "dog")
    assert found.times.tolist() == [0.0, 1.0, 2.0]
    assert found.masks.shape[1:] == (40, 60)
    assert look(tmp_path / "out" / "dog" / "overlay.mp4")[3] == pytest.approx(2.5, abs=0.15)


@pytest.mark.parametrize(
    ("options", "size", "aspect"), [((), (36, 48), 4 / 3), (("--square-pixels",), (36, 64), 1)]
)
def test_pixels_that_are_not_square(moca, tmp_path, options, size, aspect):
    planes = [np.full((36, 48), value, np.uint8) for value in (90, 110, 140)]
    video = make_raw_video(tmp_path / "dv.mkv", [planes] * 10, "yuv444p", aspect=Fraction(4, 3))
    wav = make_wav(tmp_path / "bark.wav", bark(1))
    ended = moca("segment", video, "--sound", wav, "-o", tmp_path / "out", *options, *FROZEN, *QUICK)
    assert ended.code == 0, ended.err
    found = Segmentation.load(tmp_path / "out" / "dv")
    assert found.masks.shape[1:] == size
    assert found.settings["input"].get("square_pixels", False) == bool(options)
    info = probe(tmp_path / "out" / "dv" / "overlay.mp4")
    assert (info.height, info.width) == size
    assert float(info.pixel_aspect) == pytest.approx(aspect)


def test_another_sound_for_a_video(moca, videos, tmp_path):
    wav = make_wav(tmp_path / "bark.wav", bark(2))
    ended = moca("segment", videos / "mute.mp4", "--sound", wav, "-o", tmp_path / "out", *FROZEN)
    assert ended.code == 0, ended.err
    assert Segmentation.load(tmp_path / "out" / "mute").masks.any()


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_keep_the_finished_frames_and_the_same_command_goes_on(
    start_moca, moca, tmp_path, stop, code
):
    video = make_video(tmp_path / "long.mp4", images(24, 64, 96), bark(4.8), fps=5)
    command = ("segment", video, "-o", tmp_path / "out", "--fps", "native", *FROZEN, *QUICK)
    process = start_moca(*command)
    masks, deadline = tmp_path / "out" / "long" / "masks", time.monotonic() + 300
    while not (masks / "000004.png").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(stop)
    _, complained = process.communicate(timeout=300)
    assert process.returncode == code
    assert "Traceback" not in complained
    kept = Segmentation.load(tmp_path / "out" / "long")
    assert 4 <= len(kept) < 24
    assert f"long.mp4: stopped; {len(kept)} finished frames are kept in" in complained
    assert complained.rstrip().endswith("moca: stopped")
    assert len(list(masks.iterdir())) == len(kept)
    assert 1 <= look(tmp_path / "out" / "long" / "overlay.mp4")[2] <= len(kept) + 1
    (line,) = (tmp_path / "out" / "index.jsonl").read_text().splitlines()
    assert (json.loads(line)["state"], json.loads(line)["frames"]) == ("stopped", len(kept))
    ended = moca(*command)  # unfinished: not skipped
    assert ended.code == 0
    assert "goes on behind" in ended.err
    assert is_complete(tmp_path / "out" / "long")
    whole = Segmentation.load(tmp_path / "out" / "long")
    assert len(whole) == 24
    assert np.array_equal(whole.masks[: len(kept) - 4], kept.masks[:-4])


def test_a_place_that_can_not_be_written(moca, videos, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    ended = moca("segment", videos / "mute.mp4", "-o", tmp_path / "file" / "out", *FROZEN)
    assert ended.code == 1
    assert "can't be written" in ended.err
    assert "Traceback" not in ended.err


@pytest.fixture
def small_disk(tmp_path):
    """(folder, options for Popen): a disk of 200 kB where we may mount one, else files of 60 kB at most."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield folder, {}
        subprocess.run(["umount", str(folder)], check=True)
    else:
        yield folder, {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))}


def test_a_full_disk(small_disk, start_moca, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), np.uint8)
    video = make_video(tmp_path / "noise.mp4", noise, bark(1.6), fps=5)
    folder, options = small_disk
    process = start_moca("segment", video, "-o", folder, "--fps", "native", *FROZEN, *QUICK, **options)
    _, complained = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in complained
    assert "can't be written: " in complained
    assert ("the disk is full" in complained) or options
    assert not is_complete(folder / "noise")
    assert Segmentation.load(folder / "noise").masks.shape[1:] == (240, 320)


def test_shards_share_out_the_inputs_and_names_follow_the_path(moca, videos, tmp_path):
    inputs = [videos / "band.mp4", videos / "mute.mp4", videos / "tiny.mov"]
    done = []
    for shard in ("1/2", "2/2"):
        ended = moca(
            "segment", *inputs, "-o", tmp_path / "out", "--shard", shard, "--name-by", "path",
            "--outputs", "json", "--limit", "1", *FROZEN, *QUICK,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        done.append([line.split(": ")[0] for line in ended.out.splitlines() if " -> " in line])
    assert done == [[str(inputs[0]), str(inputs[2])], [str(inputs[1])]]
    for path in inputs:
        folder = tmp_path / "out" / str(path)[1:]
        assert [entry.name for entry in folder.iterdir()] == ["result.json"]
    for wrong in ("0/2", "3/2", "2", "a/b"):
        ended = moca("segment", *inputs, "-o", tmp_path / "out", "--shard", wrong)
        assert (ended.code, "--shard must be I/N, like 1/4, with 1 <= i <= n" in ended.err) == (2, True)


def test_equal_stems_are_refused_before_anything_is_done(moca, videos, tmp_path):
    (tmp_path / "band.mov").symlink_to(videos / "band.mp4")
    ended = moca("segment", videos / "band.mp4", tmp_path / "band.mov", "-o", tmp_path / "out")
    assert ended.code == 2
    assert "name them with --name-by path or hash" in ended.err
    assert not (tmp_path / "out").exists()
