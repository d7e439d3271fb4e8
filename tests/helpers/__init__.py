"""What several tests share: small worlds of colors and tones, tiny models, media files, layouts."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"
