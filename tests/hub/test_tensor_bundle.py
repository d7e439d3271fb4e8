"""The reader of TensorFlow's tensor bundles against bundles that a writer of this file puts together."""

import struct

import numpy as np
import pytest

from moca_avs.errors import WeightsError
from moca_avs.hub.tensor_bundle import read_tensor_bundle

FLOAT, INT64 = 1, 9  # TensorFlow's DataType


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def entry(dtype, shape, offset, size):
    """BundleEntryProto: dtype, shape, shard, offset, size, checksum (not looked at)."""
    dims = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in shape))
    fields = b"\x08" + varint(dtype) + b"\x12" + varint(len(dims)) + dims
    return fields + b"\x20" + varint(offset) + b"\x28" + varint(size) + b"\x35" + struct.pack("<I", 7)


def block(items):
    """A block of a LevelDB table, keys without what they share with the one before, one restart."""
    out, last = b"", b""
    for key, value in items:
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), None)
        shared = min(len(key), len(last)) if shared is None else shared
        own = key[shared:]
        out += varint(shared) + varint(len(own)) + varint(len(value)) + own + value
        last = key
    return out + struct.pack("<II", 0, 1)


def write(folder, arrays, per_block=2, shards=1, kind=0):
    """(index, data) of a bundle; `kind` is the byte behind each block: 0 means not compressed."""
    data, items = b"", [(b"", b"\x08" + varint(shards))]
    for name in sorted(arrays):
        array = arrays[name]
        dtype = FLOAT if array.dtype == np.float32 else INT64
        items.append((name.encode(), entry(dtype, array.shape, len(data), array.nbytes)))
        data += array.tobytes()
    table, handles = b"", []

    def add(content):
        nonlocal table
        handle = varint(len(table)) + varint(len(content))
        table += content + bytes([kind]) + b"\0\0\0\0"
        return handle

    for start in range(0, len(items), per_block):
        part = items[start : start + per_block]
        handles.append((part[-1][0], add(block(part))))
    footer = add(block([])) + add(block(handles))
    table += footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / "v.index").write_bytes(table)
    (folder / "v.data-00000-of-00001").write_bytes(data)
    return folder / "v.index", folder / "v.data-00000-of-00001"


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = {
        "net/layer-1/kernel": (3, 3, 1, 200),
        "net/layer-1/beta": (200,),
        "net/layer-10/beta": (4,),
        "z": (),
    }
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("per_block", [1, 2, 10])
def test_every_float_tensor_comes_back(tmp_path, arrays, per_block):
    found = read_tensor_bundle(*write(tmp_path, arrays | {"net/step": np.arange(3)}, per_block))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_is_damaged_or_other_is_refused(tmp_path, arrays):
    index, data = write(tmp_path, arrays)
    whole, values = index.read_bytes(), data.read_bytes()
    for content, message in ((whole[:30], "magic number"), (whole[:-1] + b"x", "magic number")):
        index.write_bytes(content)
        with pytest.raises(WeightsError, match=f"{message}.*delete both and run again"):
            read_tensor_bundle(index, data)
    index.write_bytes(whole)
    data.write_bytes(values[:-8])
    with pytest.raises(WeightsError, match="no whole tensor bundle"):
        read_tensor_bundle(index, data)
    with pytest.raises(WeightsError, match="2 data files instead of one"):
        read_tensor_bundle(*write(tmp_path, arrays, shards=2))
    with pytest.raises(WeightsError, match="compressed"):
        read_tensor_bundle(*write(tmp_path, arrays, kind=1))
    with pytest.raises(WeightsError, match="No such file"):
        read_tensor_bundle(tmp_path / "nothing", data)


def test_random_damage_is_an_error_or_other_numbers_but_no_crash(tmp_path, arrays):
    index, data = write(tmp_path, arrays)
    whole, rng = index.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] = rng.integers(256)
        index.write_bytes(broken)
        try:
            read_tensor_bundle(index, data)
        except WeightsError:
            continue
