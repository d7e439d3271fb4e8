import subprocess
import sys


def test_io_never_needs_torch():
    code = (
        "import importlib, pkgutil, sys, moca_avs.io as io; "
        "names = [m.name for m in pkgutil.iter_modules(io.__path__)]; assert len(names) >= 9, names; "
        "[importlib.import_module(f'moca_avs.io.{name}') for name in names]; print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, moca_avs.io; print({'av', 'PIL', 'numpy', 'torch', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
