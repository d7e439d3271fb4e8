"""What torchrun starts in the tests: one training run of the tiny encoder, its settings as JSON.

torchrun --nproc-per-node 2 parallel_run.py OUT '{"batch": 5}' '{"cache_limit": 0}'
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import MocaError
from moca_avs.training import trainer as loop
from moca_avs.training.config import RuntimeConfig
from moca_avs.training.trainer import train


class Failing(TinyData):
    """Kills process 1 of the run when its n-th image is read."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def frame(self, index):
        if self.reads == self.at and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().frame(index)


def main(out: str, settings: str, options: str = "{}") -> int:
    torch.set_num_threads(1)
    given = json.loads(options)
    speed = RuntimeConfig(**given.pop("speed", {"precision": "float64"}))
    resume, killed_at = given.pop("resume", False), given.pop("killed_at", None)
    if given.pop("unweighted", False):  # the mistake the test must notice: a plain average over processes
        weighted = loop._Trainer._batch
        loop._Trainer._batch = lambda *now: (weighted(*now)[0], 1 / int(os.environ["WORLD_SIZE"]))
    data = TinyData() if killed_at is None else Failing(killed_at)
    chosen = config(**json.loads(settings))
    try:
        train(TinyEncoder(), data, chosen, Path(out), resume, False, speed=speed, **given)
    except MocaError as error:
        print(f"refused: {error}", file=sys.stderr)
        return error.exit_code
    left = [thread for thread in Path("/proc/self/task").glob("*/comm") if "gloo" in thread.read_text()]
    return 3 if left else 0  # threads of a group that was not destroyed may abort the process as it ends


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
