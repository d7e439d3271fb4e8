"""The demo, with and without the composed clips."""

import numpy as np
import pytest
from PIL import Image

from helpers.media_files import bark, images, look, make_video
from moca_avs import Segmentation, read_clip
from moca_avs.hub import debian, pypi
from moca_avs.io.results import is_complete
from moca_avs_bench import demo


@pytest.mark.weights
def test_without_apt_it_does_the_video_alone_and_says_so(tmp_path, monkeypatch, capfd):
    video = make_video(tmp_path / "video.mp4", images(31, 64, 96), bark(31), fps=1)
    monkeypatch.setattr(debian, "available", lambda: False)
    fetch = pypi.package_file
    monkeypatch.setattr(pypi, "package_file", lambda name: video if name == "band-film" else fetch(name))
    assert demo.run(tmp_path / "out") == 0
    said = capfd.readouterr()
    assert "The composed clips are left out: this machine has no apt-get" in said.err
    assert "video.mp4: 100%" in said.err
    assert said.out.splitlines()[-2:] == [
        f"overlay: {tmp_path / 'out' / 'band' / 'overlay.mp4'}",
        f"contact sheet: {tmp_path / 'out' / 'contact_sheet.png'}",
    ]
    assert is_complete(tmp_path / "out" / "band")
    assert Segmentation.load(tmp_path / "out" / "band").times.tolist() == [
        20.5 + second for second in range(10)
    ]
    assert look(tmp_path / "out" / "band" / "overlay.mp4")[2] == 10
    assert np.asarray(Image.open(tmp_path / "out" / "contact_sheet.png")).shape[1] > 1000


@pytest.mark.stamps
def test_a_composed_clip_has_two_turns_and_a_silent_end(tmp_path):
    pool = demo.unseen_media()
    assert {name for pair in demo.PAIRS for name in pair} <= set(pool.classes)
    path = demo.compose(pool, ("cow", "chicken"), tmp_path / "cow-chicken.mp4", seed=0)
    width, height, frames, seconds, channels, *_ = look(path)
    assert (width, height, frames, channels) == (384, 384, 60, 1)
    assert seconds == pytest.approx(6, abs=0.2)
    clip = read_clip(path)
    turns = clip.sound[: 6 * clip.sample_rate].reshape(3, -1)
    first, second, silence = 20 * np.log10(np.sqrt((turns**2).mean(1)))
    assert min(first, second) > silence + 12
    assert silence < -45
    again = demo.compose(pool, ("cow", "chicken"), tmp_path / "again" / "cow-chicken.mp4", seed=0)
    assert again.read_bytes() == path.read_bytes()
