import subprocess
import sys

import pytest

from moca_avs import media


def test_every_public_name_is_there():
    for name in media.__all__:
        assert getattr(media, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        media.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, moca_avs.media; print({'av', 'PIL', 'numpy', 'torch', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_media_never_needs_torch():
    code = (
        "import sys; from moca_avs import media; [getattr(media, name) for name in media.__all__]; "
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
