import os
import subprocess
import sys


def test_the_public_names_are_there():
    import moca_avs

    for name in moca_avs.__all__:
        assert getattr(moca_avs, name) is not None


def test_nothing_is_written_into_the_home_folder(tmp_path):
    code = "import moca_avs, onnxruntime, torch, skimage, av, safetensors, pycocotools.mask, huggingface_hub"
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "VIRTUAL_ENV", "PYTHONPATH")
    }
    subprocess.run([sys.executable, "-c", code], env={**kept, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []
