"""The run folder: a kill at any moment leaves it whole, and resuming goes on as if nothing had happened.

    RUN/config.json                          what is trained, on what, beside which weights
    RUN/log.jsonl                            one line per logged step
    RUN/pairs.safetensors                    the neighbour table
    RUN/steps/000500/adapters.safetensors    weights after 500 steps
    RUN/steps/000500/state.pt                optimizer and step, tied to those weights
    RUN/adapters.safetensors                 the last weights, written when the run is done

Randomness needs no state: every step seeds its own generator from (seed, step).
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tqdm import tqdm

from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.errors import MocaError, UsageError, WeightsError
from moca_avs.model.adapter import AdapterSet, load_adapters, save_adapters
from moca_avs.model.adapter_file import ADAPTERS
from moca_avs.training.config import may_differ
from moca_avs.training.distributed import DistributedContext
from moca_avs.utils.files import atomic_write, parse_json

STATE = "state.pt"
_PARTIAL = (".partial", ".part")  # the second up to 0.1
_COMPARED = ("training", "encoder", "data", "arithmetic")
_BEFORE: Mapping[str, dict[str, Any]] = {"arithmetic": {"precision": "float32"}}  # runs that do not say


class RunFolder:
    """Config and log of one run folder, whatever is trained.

    Args:
        path: the folder; made by `open`.
        identity: what `config.json` says. Its parts in `compared` decide the result, so a resumed run must
            have the same; the rest is only told.

    Attributes:
        weights: the file that marks the run as done.
        compared: parts of the identity.
    """

    weights = ADAPTERS
    compared: tuple[str, ...] = _COMPARED
    extends = False  # whether more steps may be asked for than the run was begun with

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity

    @property
    def finished(self) -> bool:
        """Whether the last step is done and its weights are in place."""
        return (self.path / self.weights).exists()

    def open(self, resume: bool) -> None:
        """Make the folder, or check that it holds this very run.

        Raises:
            UsageError: if it holds anything else, or if it holds this run and `resume` is False.
        """
        config = self.path / "config.json"
        # Until a step was done a run can begin anew with any settings.
        begun = any((self.path / name).exists() for name in ("log.jsonl", STATE))
        if begun or latest_checkpoint(self.path) is not None:
            found = self._check_same(config)
            if not resume:
                state = "finished" if self.finished else "unfinished"
                raise UsageError(
                    f"{self.path} holds this run already, {state}; resume it or choose another folder"
                )
            if self.extends and found["training"]["steps"] < self.identity["training"]["steps"]:
                self._extend(config, found)
        elif self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; give a new or empty folder for the run")
        elif (
            self.path.exists()
            and not config.exists()
            and any(entry.suffix not in _PARTIAL for entry in self.path.iterdir())
        ):
            raise UsageError(f"{self.path} is not empty and holds no run; give a new or empty folder")
        else:
            with writing(self.path), atomic_write(config, explain=False) as partial:
                (self.path / "pairs.safetensors").unlink(missing_ok=True)
                partial.write_text(json.dumps(self.identity, indent=2) + "\n", encoding="utf-8")
        for left in self.path.glob("steps/.*"):  # by a kill
            if left.suffix in _PARTIAL:
                shutil.rmtree(left, ignore_errors=True)
        for left in self.path.glob(".*.partial"):
            if left.is_file():
                left.unlink()

    def _extend(self, config: Path, found: dict[str, Any]) -> None:
        """Let ``config.json`` say that there are more steps; the weights of the shorter run go first."""
        steps = self.identity["training"]["steps"]
        former = [*found.get("extended", []), found["training"]["steps"]]
        longer = found | {"training": found["training"] | {"steps": steps}, "extended": former}
        with writing(config), atomic_write(config, explain=False) as partial:
            (self.path / self.weights).unlink(missing_ok=True)
            partial.write_text(json.dumps(longer, indent=2) + "\n", encoding="utf-8")

    def _check_same(self, config: Path) -> dict[str, Any]:
        """What `config` holds, which must be this very run's."""
        try:
            found = parse_json(config.read_text(encoding="utf-8"))
            parts = {part: _named((_BEFORE | found)[part]) for part in self.compared}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{config} is not the config of a training run ({error!r})") from error
        for part in self.compared:
            old, new = parts[part], _named(self.identity[part])
            free = self.extends and part == "training"
            differing = sorted(
                name
                for name in old.keys() | new.keys()
                if old.get(name) != new.get(name)
                and not (free and name in old and name in new and may_differ(name, old[name], new[name]))
            )
            if differing:
                was = ", ".join(
                    f"{name} = {old.get(name)!r} there, {new.get(name)!r} here" for name in differing
                )
                raise UsageError(
                    f"{self.path} holds a run with other {part} settings ({was}); choose another folder"
                )
        return dict(found)

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        path = self.path / "log.jsonl"
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def cut_log(self, step: int) -> None:
        """Forget what was logged after `step`: those steps will be run again.

        Raises:
            UsageError: where a line before the last is damaged.
        """
        path = self.path / "log.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
            kept = [line for line in lines if line.endswith("\n") and parse_json(line)["step"] <= step]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged ({error!r}); mend or move that file, then resume") from error
        if kept != lines:
            with writing(path), atomic_write(path, explain=False) as partial:
                partial.write_text("".join(kept), encoding="utf-8")


class AdapterRun(RunFolder):
    """The run folder of adapters: their checkpoints and last weights."""

    extends = True

    def save(
        self, step: int, adapters: AdapterSet, optimizer: torch.optim.Optimizer, scaler: dict[str, Any]
    ) -> None:
        """Write the checkpoint after `step` steps beside its place, then rename it there.

        `scaler` is the state of a float16 run's gradient scaler, else {}.
        """
        target = self.path / "steps" / f"{step:06d}"
        if target.exists():
            return
        kept, buffer = optimizer.state_dict(), io.BytesIO()
        state = {"step": step, "optimiser": kept, "digest": _digest(adapters, kept)}
        torch.save(state | ({"scaler": scaler} if scaler else {}), buffer)
        with writing(target), atomic_write(target, folder=True, explain=False) as partial:
            save_adapters(adapters, partial / ADAPTERS)
            (partial / STATE).write_bytes(buffer.getvalue())

    def finish(self, adapters: AdapterSet) -> None:
        """Put the last weights at the top of the folder, which marks the run as done; drop its cache."""
        with writing(self.path / ADAPTERS):
            save_adapters(adapters, self.path / ADAPTERS)
        shutil.rmtree(self.path / "cache", ignore_errors=True)

    def restore(
        self, encoder: AudioVisualEncoder, dtype: torch.dtype = torch.float32
    ) -> tuple[int, AdapterSet, dict[str, Any], dict[str, Any]] | None:
        """Step, adapters (on the CPU, as `dtype`), optimizer's and scaler's state of the last checkpoint.

        None where there is no checkpoint.

        Raises:
            WeightsError: if that checkpoint is damaged.
        """
        folder = latest_checkpoint(self.path)
        if folder is None:
            return None
        damage = ""
        cause: Exception | None = None
        try:
            adapters = load_adapters(folder / ADAPTERS, encoder, dtype)
            state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
            step, optimizer, digest = state["step"], state["optimiser"], state["digest"]
            scaler = dict(state.get("scaler", {}))
            if digest != _digest(adapters, optimizer):
                damage = f"{ADAPTERS} and {STATE} are not, byte for byte, what was written together"
            if step != int(folder.name):
                damage = f"{STATE} is of step {step}"
        except (WeightsError, OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            damage, cause = (str(error) or repr(error)).splitlines()[0], error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            damage, cause = f"{STATE} is not what training writes: {error!r}", error
        if damage:
            raise WeightsError(
                f"the checkpoint {folder} is damaged ({damage}); delete that folder to go on from the one "
                "before it"
            ) from cause
        return step, adapters, optimizer, scaler


def _named(part: Any) -> dict[str, Any]:
    """A part of an identity; a mere name as one setting."""
    return {"name": part} if isinstance(part, str) else dict(part)


def run_steps(
    run: RunFolder,
    steps: range,
    advance: Callable[[bool], tuple[dict[str, Any], bool]],
    save: Callable[[], None],
    log_every: int,
    checkpoint_every: int,
    progress: bool,
    context: DistributedContext | None = None,
) -> None:
    """Take a run's remaining steps; checkpoints and log lines on the way, the last step always.

    Args:
        run: gets the log's lines.
        steps: from the number of steps taken before to that of all.
        advance: takes one step. Is told whether this process was asked to stop; returns the step's line for
            the log, with its "loss", and whether any process was asked to stop.
        save: writes a checkpoint.
        log_every: steps between lines of the log.
        checkpoint_every: steps between checkpoints.
        progress: show a bar on stderr.
        context: the processes at work; None is this one alone.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the step has ended and its checkpoint is written.
    """
    context = context or DistributedContext()
    shown = None if progress else True
    bar = tqdm(desc="training", total=steps.stop, initial=steps.start, unit="step", disable=shown)
    with bar, interrupts() as interrupted:
        for step in steps:
            entry, stop = advance(interrupted())
            bar.update()
            bar.set_postfix(loss=f"{entry['loss']:.4f}", refresh=False)
            done, last = step + 1, step + 1 == steps.stop
            if context.is_main and (last or done % log_every == 0):
                run.log(entry)
            stop = stop or (context.size == 1 and interrupted())
            if stop or last or done % checkpoint_every == 0:
                save()
            if stop and not last:
                raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of a step (half a step can't be resumed); a second one does not wait."""
    asked = threading.Event()

    def ask(signum: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # signals only reach the main thread
        return
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def latest_checkpoint(run: Path) -> Path | None:
    """The folder of a run's last whole checkpoint (it holds ``adapters.safetensors``); None without one."""
    steps = run / "steps"
    whole = [entry for entry in steps.iterdir() if entry.name.isdecimal()] if steps.is_dir() else []
    return max(whole, key=lambda entry: int(entry.name), default=None)


def _digest(adapters: AdapterSet, optimizer: dict[str, Any]) -> str:
    """SHA-256 over the adapters' weights and everything the optimizer keeps."""
    digest = hashlib.sha256(adapters.weights_hash().encode())
    digest.update(json.dumps(optimizer["param_groups"], sort_keys=True).encode())
    for index, values in sorted(optimizer["state"].items()):
        for name, value in sorted(values.items()):
            digest.update(f"{index} {name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.contiguous().numpy(force=True).tobytes())
    return digest.hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full or read-only disk raises into an error that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise MocaError(
            f"could not write {path} ({error}); checkpoints already written are whole: make room or choose "
            "another place, then resume"
        ) from error
