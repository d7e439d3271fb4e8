"""What only some systems have is on no import path, and locks hold without it."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import moca_avs
import moca_avs_bench

ELSEWHERE = ("fcntl", "pwd", "grp", "resource", "termios")
CODE = f"""
import importlib, sys
for name in {ELSEWHERE}:
    sys.modules[name] = None
for name in sys.argv[2:]:
    importlib.import_module(name)
from pathlib import Path
from moca_avs.hub.cache import lock
from moca_avs.utils.files import atomic_write
with lock("one"), atomic_write(Path(sys.argv[1]) / "made", folder=True) as partial:
    (partial / "a").touch()
"""


def test_every_module_is_imported_on_a_system_without_unix_modules(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    names = [
        module.name
        for package in (moca_avs, moca_avs_bench)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    assert len(names) > 100
    command = [sys.executable, "-c", CODE, tmp_path, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / "a").exists()
    assert not [entry for entry in Path(tmp_path).iterdir() if entry.name.startswith(".")]
