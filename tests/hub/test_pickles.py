import pickle
import tracemalloc

import numpy as np
import pytest

from moca_avs.errors import WeightsError
from moca_avs.hub.weight_files import read_pickled_arrays


class Attack:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def as_npy(path, content):
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def test_nested_arrays_come_back(tmp_path):
    weights = {"conv1": {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "biases": np.zeros(3)}}
    found = read_pickled_arrays(as_npy(tmp_path / "w.npy", weights))
    assert found.keys() == weights.keys()
    for name, array in weights["conv1"].items():
        assert found["conv1"][name].dtype == array.dtype
        np.testing.assert_array_equal(found["conv1"][name], array)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    path = as_npy(tmp_path / "w.npy", {"conv1": Attack(tmp_path / "ran")})
    with pytest.raises(WeightsError, match=r"asks for (io|_io|builtins)\.open: refused"):
        read_pickled_arrays(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("attack", [eval, np.load, pickle.loads, type])
def test_any_other_global_is_refused(tmp_path, attack):
    with pytest.raises(WeightsError, match="refused"):
        read_pickled_arrays(as_npy(tmp_path / "w.npy", {"x": attack}))


def test_a_damaged_file_is_named(tmp_path):
    path = as_npy(tmp_path / "w.npy", {"x": np.zeros(100)})
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(WeightsError, match=r"w\.npy is no pickled numpy file"):
        read_pickled_arrays(path)
    path.write_bytes(b"hello")
    with pytest.raises(WeightsError, match=r"w\.npy is no pickled numpy file"):
        read_pickled_arrays(path)


def test_damage_that_calls_methods_arrays_do_not_have(tmp_path):
    """Opcodes APPEND to an array, a memo that is not there: AttributeError and KeyError inside pickle."""
    for body in (b"cnumpy\nndarray\nK\x01a.", b"g7\n.", b"a."):
        path = as_npy(tmp_path / "w.npy", {})
        head = path.read_bytes()[:128]
        path.write_bytes(head + body)
        with pytest.raises(WeightsError, match=r"w\.npy is no pickled numpy file"):
            read_pickled_arrays(path)


def test_a_header_that_is_no_python(tmp_path):
    path = as_npy(tmp_path / "w.npy", {})
    path.write_bytes(path.read_bytes().replace(b"{'descr'", b"{((((((("))
    with pytest.raises(WeightsError, match=r"w\.npy is no pickled numpy file"):
        read_pickled_arrays(path)


def test_sizes_that_a_pickle_only_claims_take_no_memory(tmp_path):
    """A memo's index, a string, an array of objects: each of gigabytes, in a file of some hundred bytes."""
    path = as_npy(tmp_path / "w.npy", {"x": np.zeros(4, np.float32)})
    whole = path.read_bytes()
    array = pickle.dumps(np.array([None, None], object))[11:]  # without the protocol and the frame's length
    small, large = b"K\x02\x85", b"J\xff\xff\xff\x7f\x85"  # the shapes (2,) and (2**31 - 1,)
    assert small in array
    claims = [
        b"Nr\xff\xff\xff\x7f.",  # LONG_BINPUT: the C reader zeroes a list of that many entries
        b"X\xff\xff\xff\x7fabc.",  # BINUNICODE
        b"\x8e" + b"\xff" * 7 + b"\x7fabc.",  # BINBYTES8
        array.replace(small, large),
    ]
    tracemalloc.start()
    for claim in claims:
        path.write_bytes(whole[:128] + claim)
        with pytest.raises(WeightsError, match=r"w\.npy is no pickled numpy file"):
            read_pickled_arrays(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_dtype_whose_state_is_damaged(tmp_path):
    """numpy's own reader of a dtype's state raises SystemError at this one, or believes it."""
    path = as_npy(tmp_path / "w.npy", {"x": np.zeros(4, np.float32)})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"K\x00t\x94b\x89C", b"K\x00\x91\x94b\x89C"))
    assert path.read_bytes() != whole
    with pytest.raises(WeightsError, match=r"w\.npy is no pickled numpy file"):
        read_pickled_arrays(path)
