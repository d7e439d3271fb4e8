"""What is there already: whether a folder's result is of this input and these settings, who works on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from moca_avs.errors import MediaError
from moca_avs.inference.inputs import JobSpec, is_finished, open_store, store_errors
from moca_avs.io.kept_results import KeptResult, parse_settings_line, read_kept
from moca_avs.io.results import RESULT
from moca_avs.utils.files import file_ends, held, unwritable_error

# Neither changes a mask: frames that are computed together, and the software (the result names it).
_UNSEEN = {"batch", "versions", "input"}
_FILES = {"source", "sound", "file", "sound_file"}
_SHOWN = 3


def identity(path: Path) -> dict[str, Any]:
    """What tells a file from another, and from itself once it was changed; quick however large it is.

    Returns:
        ``bytes``, its size; ``modified``, its time in nanoseconds; ``ends``, the SHA-256 of its first and
        last 64 KiB.

    Raises:
        MediaError: where it can't be read.
    """
    try:
        found, ends = file_ends(path)
    except OSError as error:
        raise MediaError(f"{path} can't be read: {error.strerror}; check its name and permissions") from error
    return {"bytes": found.st_size, "modified": found.st_mtime_ns, "ends": hashlib.sha256(ends).hexdigest()}


def _remote_identity(url: str) -> dict[str, Any]:
    """What a store tells of a file that changes with it: its size, and its version or time where it has one.

    Raises:
        MediaError: where it is not there; OSError where the store doesn't answer.
    """
    store, path = open_store(url)
    with store_errors(url, "fetched"):
        info = store.info(path)
    versions = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "created")
    version = next((str(info[name]) for name in versions if info.get(name) is not None), None)
    return {"bytes": info.get("size"), "version": version}


def describe_input(job: JobSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The ``input`` of a result's settings: which file, and which of its frames.

    Args:
        job: the input.
        chosen: what else was asked for, JSON-able.

    Raises:
        MediaError: where the input is not there; OSError where its store doesn't answer.
    """
    described = {"source": job.name, "sound": None if job.sound is None else str(job.sound), **chosen}
    described["file"] = identity(job.source) if job.url is None else _remote_identity(job.url)
    if job.sound is not None:
        described["sound_file"] = identity(job.sound)
    return described


def kept_result(job: JobSpec) -> KeptResult | None:
    """What the job's folder holds of a result; of one that is uploaded, only whole ones count.

    Raises:
        OSError: where the store doesn't answer.
    """
    if job.upload is None:
        return read_kept(job.folder)
    if not is_finished(job):
        return None
    store, path = open_store(job.upload)
    with store_errors(job.upload, "looked at"), store.open(f"{path}/{RESULT}", "rb") as file:
        try:
            return KeptResult(parse_settings_line(file.readline()), complete=True)
        except (ValueError, KeyError):
            return None


def differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """How a result's settings differ from those wanted.

    Args:
        kept: the result's settings.
        wanted: those that a new result would have.

    Returns:
        (what makes it the result of another input, which settings differ); "fps: 1.0 there, 2.0 here". What a
        result of version 0.1 does not say of its input is no difference.
    """
    there, here = kept.get("input", {}), _plain(wanted["input"])
    files = [name for name in ("file", "sound_file") if name in there]
    if "file" not in there:
        same = os.path.abspath(there.get("source", "")) == os.path.abspath(here["source"])  # noqa: PTH100
        other = [] if same else ["source"]
    else:
        other = [name for name in files if there[name] != here.get(name)]
    asked, before = (
        {name: value for name, value in described.items() if name not in _FILES}
        for described in (here, there)
    )
    before.setdefault("outputs", asked.get("outputs"))
    if (there.get("sound") is None) != (here["sound"] is None):
        other.append("sound")
    method = {name: value for name, value in _plain(wanted).items() if name not in _UNSEEN}
    method_before = {name: value for name, value in kept.items() if name not in _UNSEEN}
    return other, [*_unequal(before, asked), *_unequal(method_before, method)]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _unequal(there: Mapping[str, Any], here: Mapping[str, Any], inside: str = "") -> list[str]:
    """The values that differ, those of nested settings by their path."""
    found = []
    for name in dict.fromkeys([*there, *here]):
        one, two, path = there.get(name), here.get(name), f"{inside}{name}"
        if isinstance(one, dict) and isinstance(two, dict):
            found += _unequal(one, two, f"{path}.")
        elif one != two:
            found.append(f"{path}: {_short(one)} there, {_short(two)} here")
    return found


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def refusal(job: JobSpec, kept: Mapping[str, Any], other: list[str], settings: list[str]) -> MediaError:
    """What to say where a finished result is in the way."""
    if other:
        found = kept.get("input", {}).get("source", "another input")
        what = f"the result of another input, {found}; choose another -o, or --name-by path"
    else:
        more = f" and {len(settings) - _SHOWN} more" if len(settings) > _SHOWN else ""
        what = f"a result of other settings ({'; '.join(settings[:_SHOWN])}{more}); choose another -o"
    return MediaError(f"{job.result} holds {what}, or replace it with --overwrite")


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Hold a result folder for the length of the block: false where another process holds it.

    The claim is a locked file beside the folder, ``.NAME.lock``; a process that dies lets go of it.

    Raises:
        MediaError: where the file can't be made.
    """
    with ExitStack() as stack:
        ours = True
        new = [parent for parent in folder.parents if not parent.exists()]
        # Where nothing was written nothing is left behind.
        for parent in reversed(new):
            stack.callback(_remove_empty, parent)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(folder.with_name(f".{folder.name}")))
        except Timeout:
            ours = False
        except OSError as error:
            raise unwritable_error(folder, error) from error
        yield ours


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something, or another process was quicker
        folder.rmdir()
