"""Whole files of every kind that moca-avs reads, small, made without a network: what the cases damage."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import sys
import tarfile
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.archive_files import write_cat, write_font, write_rcc
from helpers.benchmark_layouts import build_world
from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.clip import Segmentation
from moca_avs.hub.weight_files import write_safetensors
from moca_avs.training.trainer import train

RATE = 16000
VIDEOS = {  # name -> (video codec, pixel format, sound codec, its sample format)
    "a.mp4": ("libx264", "yuv420p", "aac", "fltp"),
    "a.mkv": ("libx264", "yuv420p", "aac", "fltp"),
    "a.webm": ("libvpx", "yuv420p", "libopus", "flt"),
    "a.avi": ("mpeg4", "yuv420p", "pcm_s16le", "s16"),
    "a.flv": ("flv1", "yuv420p", "aac", "fltp"),
    "a.ts": ("mpeg2video", "yuv420p", "mp2", "s16"),
    "a.ogv": ("libvpx", "yuv420p", "libopus", "flt"),
    "a.mov": ("mjpeg", "yuvj420p", "pcm_s16le", "s16"),
    "a.gif": ("gif", "rgb8", "", ""),
}
SOUNDS = {
    "a.wav": ("pcm_s16le", "s16"),
    "a.mp3": ("libmp3lame", "fltp"),
    "a.flac": ("flac", "s16"),
    "a.ogg": ("libopus", "flt"),
    "a.m4a": ("aac", "fltp"),
}
IMAGES = {
    "a.png": {},
    "a.jpg": {},
    "a.gif": {},
    "a.tiff": {"compression": "tiff_lzw"},
    "b.tiff": {},
    "a.webp": {},
    "a.bmp": {},
}


def write_seeds(root: Path) -> None:
    """Make ``root/KIND/NAME/...``: each folder below a kind is one thing to read, of one file or several."""
    rng = np.random.default_rng(7)
    for name, (codec, form, sound, samples) in VIDEOS.items():
        _media(_place(root, "video", name), codec, form, sound, samples, rng)
    for name, (sound, samples) in SOUNDS.items():
        _media(_place(root, "sound", name), "", "", sound, samples, rng)
    pixels = (np.indices((40, 56)).sum(0) * 2).astype(np.uint8)
    for name, options in IMAGES.items():
        color = np.stack([pixels, pixels[::-1], rng.integers(0, 255, pixels.shape, np.uint8)], -1)
        Image.fromarray(color).save(_place(root, "image", name), **options)
    Image.fromarray(pixels // 32, "L").save(_place(root, "indices", "a.png"))
    _result(root, rng)
    _weights(root, rng)
    _configs(root)
    _manifests(root)
    _run_folder(root)
    _archives(root)


def _place(root: Path, kind: str, name: str) -> Path:
    folder = root / kind / name.replace(".", "-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _media(path: Path, codec: str, form: str, sound: str, samples: str, rng: np.random.Generator) -> None:
    """Two seconds: a square that wanders, noise that comes and goes; bit for bit the same each time."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        video = track = None
        if codec:
            video = container.add_stream(codec, rate=10)
            video.width, video.height, video.pix_fmt = 48, 32, form
            video.codec_context.thread_count = 1
        if sound:
            track = container.add_stream(sound, rate=48000 if sound == "libopus" else RATE, layout="mono")
        container.start_encoding()
        for index in range(20 if video else 0):
            image = np.full((32, 48, 3), 60, np.uint8)
            image[8:20, index : index + 12] = (220, 180, 40)
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=form)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(video.encode(frame))
        if video:
            container.mux(video.encode())
        if track:
            rate = track.rate
            wave = rng.uniform(-0.4, 0.4, 2 * rate) * (np.arange(2 * rate) // (rate // 4) % 2)
            size = track.codec_context.frame_size or 1024
            for low in range(0, len(wave) - size + 1, size):
                piece = wave[None, low : low + size].astype(np.float32)
                if samples == "s16":
                    piece = (piece * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(piece, samples, "mono")
                frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), low
                container.mux(track.encode(frame))
            container.mux(track.encode())


def _result(root: Path, rng: np.random.Generator) -> None:
    labels = np.zeros((3, 24, 32), np.uint8)
    labels[:, 4:9, 5:12] = 2
    for name, classes in (("plain", None), ("classes", labels)):
        Segmentation(
            masks=labels > 0,
            heatmaps=rng.random((3, 6, 8)).astype(np.float16),
            scores=np.array([0.5, 0.25, 0.125], np.float32),
            reasons=("", "silent", ""),
            times=np.arange(3.0),
            settings={"method": "frozen", "k": 5},
            labels=classes,
        ).save(root / "result" / name)


def _weights(root: Path, rng: np.random.Generator) -> None:
    arrays = {"conv1": {"weights": rng.random((3, 4), np.float32), "biases": np.zeros(4, np.float32)}}
    tensors = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(4)}
    write_safetensors(tensors, _place(root, "safetensors", "a.safetensors"), {"made": "here"})
    torch.save(tensors, _place(root, "checkpoint", "a.pth"))
    # The format of torch before 1.6 names tensors by their address, so that one holds none.
    plain = {"step": 7, "lr": [0.1, 0.2]}
    torch.save(plain, _place(root, "checkpoint", "b.pth"), _use_new_zipfile_serialization=False)
    np.save(_place(root, "pickle", "a.npy"), np.array(arrays, object), allow_pickle=True)
    _bundle(root / "bundle" / "a", {f"x/{i}": rng.random((2, i + 1), np.float32) for i in range(3)})


def _bundle(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """A tensor bundle: one block of entries, one of handles, a footer."""
    folder.mkdir(parents=True)
    data, entries = b"", [(b"", b"\x08\x01")]
    for name, array in arrays.items():
        shape = b"".join(b"\x12" + bytes([2]) + b"\x08" + bytes([side]) for side in array.shape)
        raw = array.astype("<f4").tobytes()
        entry = b"\x08\x01\x12" + bytes([len(shape)]) + shape + b"\x20" + bytes([len(data)])
        entries.append((name.encode(), entry + b"\x28" + bytes([len(raw)])))
        data += raw

    def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
        body = b"".join(bytes([0, len(key), len(value)]) + key + value for key, value in pairs)
        return body + struct.pack("<II", 0, 1)

    first = block(entries)
    size = len(first)
    handle = bytes([0, size & 127 | 128, size >> 7]) if size > 127 else bytes([0, size])
    index = block([(b"z", handle)])
    at = size + 5
    where = bytes([at & 127 | 128, at >> 7]) + bytes([len(index)])
    footer = (b"\0\0" + where).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / "variables.index").write_bytes(first + bytes(5) + index + bytes(5) + footer)
    (folder / "variables.data-00000-of-00001").write_bytes(data)


def _configs(root: Path) -> None:
    settings = {"method": {"clusters": 5}, "all": {"working_side": 512}, "encoder": {"image_size": 224}}
    _place(root, "config", "config.json").write_text(json.dumps(settings, indent=1))
    _place(root, "config", "flat.json").write_text('{"working_side": 512, "seed": 3}')
    _place(root, "list", "list.txt").write_text("# a list\na.mp4\n\nvideos/*.mkv\nmemory://x/b.mp4\n")


def _manifests(root: Path) -> None:
    rows = [
        ["file", "time_s", "sounding_boxes", "silent_boxes", "what_sounds"],
        ["dogs/a.mp4", "3.5", "0.1,0.2,0.5,0.9;0.6,0.1,0.9,0.4", "", "dogs barking (twice)"],
        ["b.mp4", "12", "0,0,1,1", "0.1,0.1,0.2,0.2", "rain"],
    ]
    with _place(root, "video-manifest", "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with _place(root, "vggsound", "vggsound.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["abc", 30, "dog, barking", "train"], ["def", 0, "rain", "test"]])
    build_world(root / "world", train=1, test=1)
    avss = root / "avss" / "a"
    avss.mkdir(parents=True)
    (avss / "label2idx.json").write_text('{"background": 0, "dog": 1, "man_guitar": 2}')
    head, row = "vid,uid,s_min,s_sec,a_obj,split,label\n", "v,u{},0,5,dog,{},{}\n"
    (avss / "metadata.csv").write_text(
        head + row.format(1, "test", "v1s") + row.format(2, "test", "v2") + row.format(3, "train", "v1m")
    )
    box = (
        "<annotation><bbox><name>1</name>"
        + "".join(f"<c>{n}</c>" for n in (5, 6, 90, 80))
        + "</bbox></annotation>"
    )
    flickr = root / "flickr" / "a" / "Annotations"
    flickr.mkdir(parents=True)
    (flickr / "1.xml").write_text(box)
    lines = [
        {"format": 1, "dataset": "s4"},
        {"index": 0, "id": "a", "iou": 0.5},
        {"index": 1, "id": "b", "iou": None},
    ]
    _place(root, "records", "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _stamps_manifest(root / "world")


def _stamps_manifest(world: Path) -> None:
    """The offline benchmark's manifest beside S4's table, for the last clip of it."""
    one = {"category": "red", "sounding": [True] * 5, "masks": "m.png", "cutout": "x", "sound_group": "g"}
    line = {"id": "clip01", "tier": "A", "cluster": "c", "swap": None, "objects": [one]}
    folder = world / "Single-source" / "manifest"
    folder.mkdir()
    (folder / "test.jsonl").write_text(json.dumps(line) + "\n")
    Image.fromarray(np.zeros((5 * 48, 48), np.uint8)).save(world / "Single-source" / "m.png")


def _run_folder(root: Path) -> None:
    folder = root / "run" / "a"
    folder.parent.mkdir(parents=True)
    train(TinyEncoder(), TinyData(), config(steps=4, checkpoint_every=2, log_every=1), folder, True, False)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    told = [{"step": line["step"], "loss": line["loss"]} for line in lines]  # without times
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))


def _archives(root: Path) -> None:
    files = {
        "g/activities/cows/resource/moo.ogg": b"moo" * 50,
        "g/readme.txt": b"words",
        "g/b/c/d.png": b"png" * 9,
    }
    packed = {"raw": lambda d: (0, d), "zlib": lambda d: (1, struct.pack(">I", len(d)) + zlib.compress(d))}
    for version, (name, packing) in enumerate(packed.items(), 1):
        write_rcc(_place(root, "rcc", f"{name}.rcc"), files, version, packing)
    write_cat(_place(root, "cat", "a.cat"))
    write_font(_place(root, "soundfont", "a.sf2"))
    with zipfile.ZipFile(_place(root, "zip", "a.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    with (
        _place(root, "tar", "a.tar.gz").open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packer,
        tarfile.open(fileobj=packer, mode="w") as archive,
    ):
        entry = tarfile.TarInfo("theme/team.jpg")
        entry.size = 500
        archive.addfile(entry, io.BytesIO(bytes(500)))
