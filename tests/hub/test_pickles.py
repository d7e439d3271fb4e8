import pickle

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
