"""`moca eval` and `moca data check` on AVSS and VGG-SS in their own layouts, on masks that a system wrote."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.media_files import bark, images, make_wav
from helpers.real_videos import write_world

CLIPS = {"d1": "dog", "c1": "cat", "d2": "dog"}
CLASSES = {"background": 0, "cat": 1, "dog": 2}
AVSS, PLACES = "AVSBench-semantic", "VGG-SS"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three clips, as AVSS's v1m and as VGG-SS: a bright square sounds, and its place is the truth."""
    base = tmp_path_factory.mktemp("data")
    table, boxes = ["vid,uid,s_min,s_sec,a_obj,split,label"], []
    for seed, (name, category) in enumerate(CLIPS.items()):
        frames = images(5, 64, 64, seed=seed * 11)
        clip = base / AVSS / "v1m" / name
        for i, frame in enumerate(frames):
            save(frame, clip / f"frames/{i}.jpg")
            save(square(frame) * np.uint8(CLASSES[category]), clip / f"labels_semantic/{i}.png")
        save(frames[0], base / PLACES / f"frames/{name}.jpg")
        (base / PLACES / "audio").mkdir(exist_ok=True)
        for path in (clip / "audio.wav", base / PLACES / f"audio/{name}.wav"):
            make_wav(path, bark(5, 16000, seed), 16000)
        rows, columns = np.nonzero(square(frames[0]))
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 64
        table.append(f"{name},{name},0,0,{category},test,v1m")
        boxes.append({"file": name, "class": category, "bbox": [box.tolist()]})
    (base / AVSS / "metadata.csv").write_text("\n".join(table) + "\n")
    (base / AVSS / "label2idx.json").write_text(json.dumps(CLASSES))
    (base / PLACES / "vggss.json").write_text(json.dumps(boxes))
    return base


def square(frame):
    return frame[..., 0] > 200


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


@pytest.fixture
def predictions(root, tmp_path):
    """What a system would write: exact class maps; exact boxes; the last clip's are empty."""
    for name in CLIPS:
        for i in range(5):
            labels = Image.open(root / AVSS / f"v1m/{name}/labels_semantic/{i}.png")
            large = np.array(labels.resize((224, 224), Image.Resampling.NEAREST)) * (name != "d2")
            save(large, tmp_path / AVSS / name / f"{i}.png")
            if i == 0:
                save((large > 0) * 255, tmp_path / PLACES / name / "0.png")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "folder", "options", "metric", "value"),
    [
        ("avss", AVSS, (), "class_miou", None),
        ("avss", AVSS, ("--protocol", "padded"), "class_miou", None),
        ("vggss", PLACES, ("--protocol", "mask"), "ciou", 2 / 3),
        ("vggsound-single", PLACES, (), "ciou", None),
    ],
)
def test_masks_of_any_system_are_scored_and_shards_merge(
    moca, root, predictions, tmp_path, name, folder, options, metric, value
):
    common = ("--dataset", name, "--root", root, "--predictions", predictions / folder, "--no-foreground")
    ended = moca("eval", *common, *options, "--out", tmp_path / "all.json")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "all.json").read_text())
    protocol = options[1] if options else {"avss": "real"}.get(name, "lvs")
    assert f"{name} test: protocol {protocol}" in ended.out
    assert report["protocol"] == protocol
    found = report["tiers"]["all"]["rows"]["method"][metric]["estimate"]
    assert 0 < found < 1
    assert value is None or found == pytest.approx(value)
    for shard in ("1/3", "2/3", "3/3"):
        part = tmp_path / f"part{shard[0]}.json"
        assert moca("eval", *common, *options, "--shard", shard, "--out", part).code == 0
    parts = [tmp_path / f"part{i}.jsonl" for i in (2, 1, 3)]
    assert moca("eval", "--merge", *parts, "--out", tmp_path / "merged.json").code == 0
    assert (tmp_path / "merged.json").read_text() == (tmp_path / "all.json").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--dataset", "avss", "--protocol", "lvs"), "no protocol named 'lvs'; choose from real, padded"),
        (("--dataset", "vggss", "--split", "val"), "has no split 'val'"),
    ],
)
def test_options_of_another_kind_are_refused(moca, root, predictions, tmp_path, options, said):
    common = ("--root", root, "--predictions", predictions / AVSS, "--no-foreground")
    ended = moca("eval", *common, *options, "--out", tmp_path / "r.json")
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.weights
@pytest.mark.parametrize(("name", "row"), [("vggss", "null: centered disk"), ("avss", "mIoU over classes")])
def test_a_method_is_scored_beside_its_control_and_nulls(moca, root, tmp_path, name, row):
    method = ("--method", "frozen", "--device", "cpu", "--shard", "1/3")
    ended = moca("eval", "--dataset", name, "--root", root, *method, "--out", tmp_path / "r.json")
    assert ended.code == 0, ended.err
    for said in (
        "control: wrong sound to everything",
        "null: salient foreground",
        "null: whole image",
        row,
    ):
        assert said in ended.out
    assert "named no classes" not in ended.out


@pytest.mark.weights
def test_real_videos_are_scored_beside_the_method_without_sound(moca, tmp_path):
    world = write_world(tmp_path / "videos", ("red", "blue"))
    for name, score in (("boxes", "IoU of bounding boxes"), ("duets", "both right")):
        out, common = tmp_path / f"{name}.json", ("--dataset", name, "--root", world, "--limit", "1")
        ended = moca("eval", *common, "--device", "cpu", "--set", "cues=tags+motion", "--out", out)
        assert ended.code == 0, ended.err
        assert score in ended.out
        assert "null: the method without sound" in ended.out
        assert json.loads(out.read_text())["size"] == 1
    assert "test: 2 listed, 2 complete" in moca("data", "check", "boxes", "--root", world).out
    assert moca("eval", *common, "--limit", "0", "--out", tmp_path / "x.json").code == 2


def test_data_check_names_what_is_missing_all_of_it_if_asked(moca, root, tmp_path):
    table = (root / AVSS / "metadata.csv").read_text()
    (tmp_path / "metadata.csv").write_text(table)
    (tmp_path / "label2idx.json").write_text(json.dumps(CLASSES))
    ended = moca("data", "check", "avss", "--root", tmp_path)
    assert ended.code == 1
    assert "test v1m: 3 listed, 0 complete, officially 64" in ended.out
    assert "missing: v1m/d1/frames/0.jpg" in ended.out
    assert "... and 23 more missing files" in ended.out
    whole = moca("data", "check", "avss", "--root", tmp_path, "--all")
    assert "missing: v1m/d2/audio.wav" in whole.out
    assert "more missing" not in whole.out
    assert "3 listed, 3 complete, officially 5158" in moca("data", "check", "vggss", "--root", root).out
