"""``python -m moca_avs`` is the command `moca`: what ``torchrun -m moca_avs train ...`` starts."""

from __future__ import annotations

import sys

from moca_avs.cli import main

if __name__ == "__main__":
    sys.exit(main())
