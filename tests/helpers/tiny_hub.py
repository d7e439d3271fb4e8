"""A Hub of one's own on localhost: serves a folder as one repository, or refuses, as the real one would."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def tiny_hub(repository: str, folder: Path | None, refusal: tuple[int, str] | None = None) -> Iterator[str]:
    """Serve `folder` as `repository`; with a refusal (status, X-Error-Code) answer only that.

    Yields:
        What HF_ENDPOINT must be.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *arguments: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            if refusal is not None or folder is None:
                status, code = refusal or (404, "RepoNotFound")
                self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "refused"}, body)
            elif path.startswith(f"/api/models/{repository}/tree/"):
                self._send(200, json.dumps(_tree(folder)).encode(), {}, body)
            elif path.startswith(f"/api/models/{repository}"):
                self._send(200, json.dumps(_about(repository, folder)).encode(), {}, body)
            else:
                file = folder / path.rpartition("/")[2]
                if not file.is_file():
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
                    return
                headers = {"ETag": f'"{_sha256(file)}"', "X-Repo-Commit": COMMIT}
                self._send(200, file.read_bytes(), headers, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _about(repository: str, folder: Path) -> dict[str, object]:
    return {
        "id": repository,
        "modelId": repository,
        "sha": COMMIT,
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": file.name} for file in sorted(folder.iterdir())],
    }


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": file.name,
            "size": file.stat().st_size,
            "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
        }
        for file in sorted(folder.iterdir())
    ]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
