"""Open every page of the built site in headless Chromium, at the width of a desk and of a phone.

python tools/screenshots.py OUT    # after make docs; needs playwright and chromium (in no extra)

OUT gets a PNG per page and width. A page that is wider than the window, asks another server for anything, or
logs an error is named, and the exit code is then 1.
"""

from __future__ import annotations

import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

SITE = Path(__file__).resolve().parent.parent / "out/site"
WIDTHS = (1280, 390)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def main(out: Path) -> int:
    """Photograph all pages but those that show source files; returns the exit code."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home, found = f"http://127.0.0.1:{server.server_port}/", []
    out.mkdir(parents=True, exist_ok=True)
    pages = [path.parent.relative_to(SITE).as_posix() for path in sorted(SITE.rglob("index.html"))]
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for width in WIDTHS:
            tab = browser.new_page(viewport={"width": width, "height": 2400})
            tab.on("request", lambda one: one.url.startswith(home) or found.append(f"asks for {one.url}"))
            tab.on("console", lambda one: one.type == "error" and found.append(f"console: {one.text}"))
            for page in (one for one in pages if not one.startswith("source/") or one.endswith("clip.py")):
                tab.goto(home + (f"{page}/" if page != "." else ""))
                wide = tab.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    found.append(f"{page} is {wide} px wide at {width}")
                tab.screenshot(path=out / f"{page.replace('/', '_')}-{width}.png", timeout=120_000)
        browser.close()
    server.shutdown()
    print(f"{len(pages)} pages -> {out}", *found, sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
