"""A read-only Hugging Face Hub on loopback: the two endpoints that downloading a model needs."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """Serves ``<owner>/<repo>/<file>`` of a folder as ``/<owner>/<repo>/resolve/<revision>/<file>``."""

    root: Path
    revisions = ("main", "v1", COMMIT)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        owner, repo, verb, revision, *rest = [*self.path.strip("/").split("/"), "", "", "", ""]
        name = "/".join(part for part in rest if part)
        own = self.root / owner / repo / "@" / revision / name  # a file may differ between revisions
        file = own if own.is_file() else self.root / owner / repo / name
        error = (
            "RepoNotFound" if verb != "resolve" or not (self.root / owner / repo).is_dir()
            else "RevisionNotFound" if revision not in self.revisions
            else "EntryNotFound" if not file.is_file()
            else None
        )  # fmt: skip
        body = file.read_bytes() if error is None else b""
        self.send_response(404 if error else 200)
        if error:
            self.send_header("X-Error-Code", error)
        else:
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", hashlib.sha1(revision.encode()).hexdigest())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serve(root: Path) -> Iterator[str]:
    """The address of a Hub that holds the folders below ``root``."""
    handler = type("BoundHandler", (Handler,), {"root": root})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
