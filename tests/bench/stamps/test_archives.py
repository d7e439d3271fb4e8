"""Reading files out of packages. The archives are written here, byte by byte, by an independent writer."""

import io
import struct
import tarfile
import zipfile
import zlib

import pytest
import zstandard

from moca_avs.errors import DataError
from moca_avs_bench.stamps.media import read_member

FILES = {"gcompris/src/activities/cows/resource/moo.ogg": b"moo" * 50, "gcompris/src/readme.txt": b"words"}


def write_rcc(path, files, version, packing):
    """A Qt resource: breadth-first tree, children of a folder side by side."""
    root: dict = {}
    for name, data in files.items():
        *folders, last = name.split("/")
        place = root
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = data
    names, blobs = bytearray(), bytearray()
    nodes, queue = [(0, root)], [root]
    first_child = {}
    while queue:
        folder = queue.pop(0)
        first_child[id(folder)] = len(nodes)
        for name, child in folder.items():
            nodes.append((len(names), child))
            names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
            if isinstance(child, dict):
                queue.append(child)
    tree = bytearray()
    for name_at, node in nodes:
        if isinstance(node, dict):
            tree += struct.pack(">IHII", name_at, 2, len(node), first_child[id(node)])
        else:
            flag, packed = packing(node)
            tree += struct.pack(">IHHHI", name_at, flag, 0, 0, len(blobs))
            blobs += struct.pack(">I", len(packed)) + packed
        tree += b"\0" * 8 if version >= 2 else b""  # time of last change
    header = 20 if version < 3 else 24
    head = struct.pack(
        ">4sIIII", b"qres", version, header, header + len(tree), header + len(tree) + len(blobs)
    )
    path.write_bytes(head + b"\0" * (header - 20) + tree + blobs + names)


PACKINGS = {
    "raw": lambda data: (0, data),
    "zlib": lambda data: (1, struct.pack(">I", len(data)) + zlib.compress(data)),
    "zstd": lambda data: (4, zstandard.ZstdCompressor().compress(data)),
}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("packing", PACKINGS)
def test_rcc_gives_every_file_back(tmp_path, version, packing):
    (tmp_path / "usr").mkdir()
    write_rcc(tmp_path / "usr" / "cows.rcc", FILES, version, PACKINGS[packing])
    for name, data in FILES.items():
        assert read_member(tmp_path, f"rcc:{name}") == data


def test_cat_sounds_are_named_by_number_and_title(tmp_path):
    riffs = [b"RIFF" + struct.pack("<I", len(body)) + body for body in (b"WAVEfirst", b"WAVEsecond!")]
    texts = [b'"Cow". Original "moo.wav" by "someone"\0', b'"Tropical: Bird (2)"\0']
    body, offsets = b"", []
    for text, riff in zip(texts, riffs, strict=True):
        offsets.append((16 + len(body), len(riff)))
        body += bytes([len(text)]) + text + riff
    pairs = b"".join(struct.pack("<II", offset | 0x80000000, size) for offset, size in offsets)
    (tmp_path / "sounds.cat").write_bytes(pairs + body)
    assert read_member(tmp_path, "cat:00_Cow") == riffs[0]
    assert read_member(tmp_path, "cat:01_Tropical_Bird_2") == riffs[1]


def test_zip_members_are_found_with_and_without_their_first_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "public.zip", "w") as archive:
        archive.writestr("audio/actor/horse.ogg", b"neigh")
    assert read_member(tmp_path, "zip:actor/horse.ogg") == b"neigh"
    assert read_member(tmp_path, "zip:audio/actor/horse.ogg") == b"neigh"


def test_photos_are_read_out_of_a_compressed_tar(tmp_path):
    with tarfile.open(tmp_path / "theme-1.0.tar.gz", "w:gz") as archive:
        for name in ("theme/team.jpg", "theme/readme.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    assert read_member(tmp_path, "tar.gz:theme/team.jpg") == b"theme/team.jpg"
    with pytest.raises(DataError, match="readme"):  # only images are indexed
        read_member(tmp_path, "tar.gz:theme/readme.txt")


def test_plain_files_are_read_and_missing_ones_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"here")
    assert read_member(tmp_path, "a.txt") == b"here"
    with pytest.raises(DataError, match=r"b\.txt"):
        read_member(tmp_path, "b.txt")
    with pytest.raises(DataError, match=r"no \.zip file .* x/y"):
        read_member(tmp_path, "zip:x/y")


def test_a_file_that_is_no_resource_is_named(tmp_path):
    (tmp_path / "cows.rcc").write_bytes(b"something else entirely")
    with pytest.raises(DataError, match=r"cows\.rcc"):
        read_member(tmp_path, "rcc:gcompris/src/activities/cows/resource/moo.ogg")
