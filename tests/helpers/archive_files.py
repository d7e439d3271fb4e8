"""Archives of the offline benchmark's media, written byte by byte by an independent writer."""

import struct

import numpy as np

PERIOD, PERIODS = 100, 20  # samples; 441 Hz at 44.1 kHz
LOOPED = (54, struct.pack("<h", 1))


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


def write_cat(path):
    """An OpenTTD sound set of two sounds; returns their RIFF files."""
    riffs = [b"RIFF" + struct.pack("<I", len(body)) + body for body in (b"WAVEfirst", b"WAVEsecond!")]
    texts = [b'"Cow". Original "moo.wav" by "someone"\0', b'"Tropical: Bird (2)"\0']
    body, offsets = b"", []
    for text, riff in zip(texts, riffs, strict=True):
        offsets.append((16 + len(body), len(riff)))
        body += bytes([len(text)]) + text + riff
    pairs = b"".join(struct.pack("<II", offset | 0x80000000, size) for offset, size in offsets)
    path.write_bytes(pairs + body)
    return riffs


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_font(path, bank=0, preset=24, generators=(LOOPED,), ranges=((0, 127),)):
    """One preset; one zone, all of the same sample, per range of keys."""
    wave = np.sin(2 * np.pi * np.arange(PERIOD * PERIODS) / PERIOD)
    samples = np.r_[np.rint(wave * 20000).astype("<i2"), np.zeros(46, "<i2")]
    zones = []
    for low, high in ranges:
        zones.append([(43, bytes((low, high))), *generators, (53, struct.pack("<H", 0))])
    flat = [g for zone in zones for g in zone]
    bounds = np.cumsum([0, *map(len, zones)])
    inst = struct.pack("<20sH", b"sine", 0) + struct.pack("<20sH", b"EOI", len(zones))
    ibag = b"".join(struct.pack("<HH", b, 0) for b in bounds)
    igen = b"".join(struct.pack("<H", g) + raw for g, raw in flat) + bytes(4)
    phdr = struct.pack("<20sHHHIII", b"sine", preset, bank, 0, 0, 0, 0) + struct.pack(
        "<20sHHHIII", b"EOP", 0, 0, 1, 0, 0, 0
    )
    pbag = struct.pack("<4H", 0, 0, 1, 0)
    pgen = struct.pack("<HH", 41, 0) + bytes(4)
    loop = (PERIOD * 5, PERIOD * 15)
    shdr = struct.pack("<20s5IBbHH", b"sine", 0, PERIOD * PERIODS, *loop, 44100, 69, 0, 0, 1) + bytes(46)
    tables = {b"phdr": phdr, b"pbag": pbag, b"pmod": bytes(10), b"pgen": pgen, b"inst": inst}
    tables |= {b"ibag": ibag, b"imod": bytes(10), b"igen": igen, b"shdr": shdr}
    pdta = b"pdta" + b"".join(chunk(name, data) for name, data in tables.items())
    sdta = b"sdta" + chunk(b"smpl", samples.tobytes())
    body = b"sfbk" + chunk(b"LIST", sdta) + chunk(b"LIST", pdta)
    path.write_bytes(chunk(b"RIFF", body))
    return path
