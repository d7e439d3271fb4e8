"""`--batch`: frames of several inputs at once give what each gives alone, also where some go wrong."""

import functools

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.media_files import bark, images, make_video
from helpers.tiny_encoders import TinyConvolution
from moca_avs.clip import Segmentation
from moca_avs.errors import MediaError, UsageError, WeightsError
from moca_avs.inference import job as one_input
from moca_avs.inference import segment
from moca_avs.inference.inputs import JobSpec, plan
from moca_avs.inference.job import JobResult, SegmentOptions
from moca_avs.inference.segment import segment_all, segment_file
from moca_avs.io.results import SegmentationWriter, is_complete
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca
from moca_avs.proposals.superpixels import SuperpixelProposer

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
FRAMES = {"a": 7, "b": 3, "broken": 0, "c": 12, "mute": 5, "silent": 6, "one": 1}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Of other lengths, sizes and rates, in the order of `FRAMES`."""
    folder = tmp_path_factory.mktemp("videos")

    def noisy(name, height, width, sound=None, rate=22050):
        seed = len(name) + ord(name[0])
        frames = images(FRAMES[name], height, width, seed)
        frames[:, :, width // 2 :] = np.random.default_rng(seed).integers(
            0, 256, (height, width - width // 2, 3)
        )
        make_video(folder / f"{name}.mp4", frames, sound, rate, fps=5)

    noisy("a", 64, 96, bark(1.4))
    noisy("b", 48, 64, bark(0.6, 44100), 44100)
    (folder / "broken.mp4").write_text("no video")
    noisy("c", 64, 96, bark(2.4, 16000, 3), 16000)
    noisy("mute", 80, 48)
    noisy("silent", 64, 96, 0 * bark(1.2))
    noisy("one", 30, 40, bark(0.2, 48000), 48000)
    return [folder / f"{name}.mp4" for name in FRAMES]


def method():
    return Moca(
        TinyConvolution(), None, SuperpixelProposer(), MocaConfig(clusters=3, proposals="superpixels")
    )


class Recording:
    """Notes how many frames of which image sizes come together; fails or stops where told."""

    def __init__(self, fault=None, error=None):
        self.method, self.fault, self.error = method(), fault, error
        self.settings, self.device = self.method.settings, self.method.device
        self.calls = []

    def _look(self, clips):
        for clip in clips:
            if self.fault and clip.source.endswith(self.fault):
                raise self.error

    def __call__(self, clip):
        self.calls.append([len(clip)])
        self._look([clip])
        return self.method(clip)

    def predict_batch(self, clips):
        self.calls.append([len(clip) for clip in clips])
        self._look(clips)
        return self.method.predict_batch(clips)


class Lonely:
    """A method that knows single clips only."""

    def __init__(self):
        self.method, self.calls = method(), []
        self.settings = self.method.settings

    def __call__(self, clip):
        self.calls.append(len(clip))
        return self.method(clip)


def run(videos, out, batch=None, found=None, **options):
    jobs = plan(videos, out)
    chosen = SegmentOptions(fps="native", batch=batch, **options)
    return list(segment_all(jobs, lambda: found or method(), chosen, progress=False))


@pytest.fixture(scope="module")
def alone(videos, tmp_path_factory):
    """What each gets in a call of its own: by name."""
    out = tmp_path_factory.mktemp("alone")
    for video in videos:
        run([video], out)
    return {video.stem: Segmentation.load(out / video.stem) for video in videos if video.stem != "broken"}


def check(outcomes, alone):
    for outcome in outcomes:
        name = outcome.job.source.stem
        if name == "broken":
            assert (outcome.state, outcome.frames, outcome.job.folder.exists()) == ("failed", 0, False)
            assert "broken.mp4 is not a video" in outcome.message
            continue
        result, expected = Segmentation.load(outcome.job.folder), alone[name]
        assert (outcome.state, outcome.frames, len(result)) == ("done", FRAMES[name], FRAMES[name])
        assert is_complete(outcome.job.folder)
        assert (outcome.job.folder / "overlay.mp4").is_file()
        assert result.reasons == expected.reasons
        assert outcome.empty.total() == sum(bool(reason) for reason in expected.reasons)
        assert np.array_equal(result.masks, expected.masks)
        assert np.array_equal(result.times, expected.times)
        np.testing.assert_allclose(result.heatmaps, expected.heatmaps, atol=1e-3)
        np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
        assert result.settings == expected.settings


@pytest.mark.parametrize("batch", [None, 1, 4, 7, 100])
def test_results_are_those_of_each_alone(videos, alone, tmp_path, batch):
    outcomes = run(videos, tmp_path, batch)
    assert [outcome.job.source for outcome in outcomes] == videos
    check(outcomes, alone)
    assert set(alone["mute"].reasons) == {"no sound"}
    assert set(alone["silent"].reasons) == {"silent"}
    assert set(alone["a"].reasons) == set(alone["one"].reasons) == {""}


@pytest.mark.parametrize("order", [(6, 5, 4, 3, 2, 1, 0), (2, 0, 3, 6, 1, 4, 5)])
def test_another_order_gives_the_same_results_in_that_order(videos, alone, tmp_path, order):
    outcomes = run([videos[index] for index in order], tmp_path, 7)
    assert [outcome.job.source for outcome in outcomes] == [videos[index] for index in order]
    check(outcomes, alone)


def test_groups_are_full_and_in_order(videos, tmp_path):
    found = Recording()
    run(videos, tmp_path / "7", 7, found)
    assert found.calls == [[7], [3, 4], [3, 4], [1, 5, 1], [5, 1]]
    found = Recording()
    run(videos, tmp_path / "100", 100, found)
    assert found.calls == [[7, 3, 12, 5, 6, 1]]
    found = Recording()
    run(videos, tmp_path / "1", 1, found)
    assert found.calls == [[1]] * 34


def test_left_to_itself_it_takes_four_of_one_input_on_a_cpu(videos, tmp_path):
    found = Recording()
    run(videos, tmp_path, None, found)
    assert found.calls == [[4], [3], [3], [4], [4], [4], [4], [1], [4], [2], [1]]


def test_left_to_itself_it_takes_sixteen_of_any_inputs_on_a_gpu(videos, alone, tmp_path):
    found = Recording()
    found.device = torch.device("cuda")
    check(run(videos, tmp_path, None, found), alone)
    assert [sum(call) for call in found.calls] == [16, 16, 2]


def test_a_method_for_single_clips_is_asked_one_by_one(videos, alone, tmp_path):
    found = Lonely()
    check(run(videos, tmp_path, 7, found), alone)
    assert found.calls == [7, 3, 4, 3, 4, 1, 5, 1, 5, 1]


def test_only_the_input_that_the_method_fails_on_fails(videos, alone, tmp_path):
    found = Recording("mute.mp4", MediaError("odd"))
    outcomes = {outcome.job.source.stem: outcome for outcome in run(videos, tmp_path, 7, found)}
    odd = outcomes.pop("mute")
    assert (odd.state, odd.message, odd.frames) == ("failed", "odd", 0)
    assert not is_complete(odd.job.folder)
    check(outcomes.values(), alone)


def test_the_chunks_before_a_failure_are_kept_and_none_after_it(videos, tmp_path):
    class Later(Recording):
        def _look(self, clips):
            if any(clip.source.endswith("c.mp4") and clip.times[0] == pytest.approx(0.8) for clip in clips):
                raise MediaError("odd")

    found = Later()
    outcomes = {outcome.job.source.stem: outcome for outcome in run(videos, tmp_path, 4, found)}
    assert found.calls[:6] == [[4], [3, 1], [2, 2], [2, 2], [2], [2]]
    assert (outcomes["c"].state, outcomes["c"].frames) == ("failed", 4)
    assert [name for name, outcome in outcomes.items() if outcome.state == "failed"] == ["broken", "c"]


def test_only_the_input_that_can_not_be_written_fails(videos, alone, tmp_path, monkeypatch):
    append = SegmentationWriter._append

    def full(writer, result, index):
        if writer.folder.name == "c" and writer.frames == 5:
            raise OSError(28, "No space left on device")
        append(writer, result, index)

    monkeypatch.setattr(SegmentationWriter, "_append", full)
    (tmp_path / "a" / "masks").mkdir(parents=True)
    (tmp_path / "a" / "masks" / "mine.png").write_text("not ours")
    outcomes = {outcome.job.source.stem: outcome for outcome in run(videos, tmp_path, 16)}
    first, third = outcomes.pop("a"), outcomes.pop("c")
    assert (first.state, first.frames) == ("failed", 0)
    assert "files of another origin" in first.message
    assert (third.state, third.frames, len(Segmentation.load(tmp_path / "c"))) == ("failed", 5, 5)
    assert "the disk is full" in third.message
    check(outcomes.values(), alone)


def stopping(videos, tmp_path, fault, batch):
    outcomes = segment_all(
        plan(videos, tmp_path),
        lambda: Recording(fault, KeyboardInterrupt()),
        SegmentOptions(fps="native", batch=batch),
        progress=False,
    )
    told = []
    with pytest.raises(KeyboardInterrupt):
        told.extend(outcomes)  # extend keeps what came before
    return {outcome.job.source.stem: (outcome.state, outcome.frames) for outcome in told}


def test_ctrl_c_inside_a_group_keeps_every_finished_frame(videos, alone, tmp_path):
    # Groups of 7: a | b, c to frame 3 | c to 10 | the rest of c, mute, a frame of silent.
    told = stopping(videos, tmp_path, "mute.mp4", 7)
    assert told == {
        "a": ("done", 7),
        "b": ("done", 3),
        "broken": ("failed", 0),
        "c": ("stopped", 11),
        "mute": ("stopped", 0),
        "silent": ("stopped", 0),
    }
    kept = Segmentation.load(tmp_path / "c")
    assert np.array_equal(kept.masks, alone["c"].masks[:11])
    assert not is_complete(tmp_path / "c")
    assert not (tmp_path / "one").exists()


def test_ctrl_c_with_one_input_in_work_tells_of_that_alone(videos, tmp_path):
    assert stopping(videos, tmp_path, "c.mp4", None) == {
        "a": ("done", 7),
        "b": ("done", 3),
        "broken": ("failed", 0),
        "c": ("stopped", 0),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_finished_ones_are_skipped(videos, alone, tmp_path):
    run([videos[0], videos[4]], tmp_path)
    found = Recording()
    outcomes = run(videos, tmp_path, 16, found)
    assert [outcome.state for outcome in outcomes] == [
        "skipped", "done", "failed", "done", "skipped", "done", "done",
    ]  # fmt: skip
    assert found.calls == [[3, 12, 1], [5, 1]]
    check(run(videos, tmp_path, 16, overwrite=True), alone)


def test_options_that_make_no_sense_end_the_run_after_the_inputs_before(videos, tmp_path):
    Image.fromarray(images(1, 40, 60)[0]).save(tmp_path / "dog.png")
    good = plan(videos[:2], tmp_path / "out")
    jobs = [
        *good,
        JobSpec(tmp_path / "dog.png", tmp_path / "out" / "dog", still=True),
        JobSpec(videos[3], tmp_path / "c"),
    ]
    told = []
    with pytest.raises(UsageError, match="needs a sound"):
        told.extend(segment_all(jobs, method, SegmentOptions(batch=4), progress=False))
    assert [(outcome.job, outcome.state) for outcome in told] == [(job, "done") for job in good]
    assert not is_complete(tmp_path / "c")


def test_weights_that_are_wrong_end_the_run(videos, tmp_path):
    with pytest.raises(WeightsError, match="bad weights"):
        run(videos, tmp_path, 7, Recording("b.mp4", WeightsError("bad weights")))
    assert not is_complete(tmp_path / "b")


def test_what_was_asked_of_a_shared_batch_is_divided_by_frames(videos, tmp_path):
    outcomes = {outcome.job.source.stem: outcome for outcome in run(videos, tmp_path, 100, profile=True)}
    image = {name: outcome.seconds["image encoder"] for name, outcome in outcomes.items()}
    per_frame = [image[name] / FRAMES[name] for name in FRAMES if name != "broken"]
    assert min(per_frame) > 0
    np.testing.assert_allclose(per_frame, per_frame[0])
    assert image["broken"] == 0


def test_one_group_is_read_ahead_and_no_more(videos, tmp_path, monkeypatch):
    made, answered, waiting = [], [], []
    groups, answer = segment._batches, segment._predict

    def noting_groups(pieces, most):
        for group in groups(pieces, most):
            made.append(sum(len(clip.wanted) for _, clip in group if clip is not None))
            waiting.append(len(made) - len(answered))
            yield group

    def noting_answer(*arguments):
        answer(*arguments)
        answered.append(1)

    monkeypatch.setattr(segment, "_batches", noting_groups)
    monkeypatch.setattr(segment, "_predict", noting_answer)
    run(videos, tmp_path, 3)
    assert made == [3] * 11 + [1]
    assert max(waiting) == 2  # the one that is being answered, and the next


def test_groups_of_inputs_without_frames_are_bounded_too():
    pieces = [(index, None) for index in range(20)]
    assert [len(group) for group in segment._batches(pieces, 3)] == [6, 6, 6, 2]


def test_one_input_alone_is_batched_too(videos, alone, tmp_path):
    found = Recording()
    outcome = JobResult(JobSpec(videos[3], tmp_path / "c"))
    segment_file(outcome.job, lambda: found, SegmentOptions(fps="native", batch=5), outcome, progress=False)
    assert found.calls == [[5], [5], [2]]
    assert np.array_equal(Segmentation.load(tmp_path / "c").masks, alone["c"].masks)


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_holds_at_least_a_frame(batch):
    with pytest.raises(UsageError, match="batch must be at least 1 frame"):
        SegmentOptions(batch=batch)


def test_one_bar_at_a_time(videos, tmp_path, capsys):
    for batch, shown in ((None, "a.mp4"), (7, "input")):
        for _ in segment_all(
            plan(videos[:2], tmp_path / str(batch)), method, SegmentOptions("native", batch=batch)
        ):
            pass
        err = capsys.readouterr().err
        assert shown in err
        assert ("a.mp4" in err) == (batch is None)
        assert "2/2" in err or batch is None


@pytest.mark.weights
def test_the_command_takes_a_batch(moca, videos, tmp_path):
    inputs = [video for video in videos if video.stem != "broken"]
    flags = ("--method", "frozen", "--device", "cpu", "--fps", "native", "--limit", 3, "--set", "refine=none")
    for name, more in (("one", ()), ("many", ("--batch", 16)), ("set", ("--batch", 16, "--set", "batch=3"))):
        ended = moca("segment", *inputs, "-o", tmp_path / name, *flags, *more)
        assert ended.code == 0, ended.err
    for video in inputs:
        one, many, told = (Segmentation.load(tmp_path / name / video.stem) for name in ("one", "many", "set"))
        assert np.array_equal(one.masks, many.masks)
        assert np.array_equal(one.heatmaps, many.heatmaps)
        assert (many.settings["batch"], told.settings["batch"]) == (16, 3)
        assert many.settings == {**one.settings, "batch": 16}


@pytest.mark.parametrize("batch", [None, 1, 3, 16])
def test_frames_to_compare_with_are_not_written(videos, alone, tmp_path, monkeypatch, batch):
    reader = functools.partial(one_input.stream_clips, context=2)
    monkeypatch.setattr(one_input, "stream_clips", reader)
    check(run(videos, tmp_path, batch), alone)
