"""A Hugging Face Hub on loopback, in memory: the part of its HTTP API that models are made, pushed and pulled by.

It answers what the clients 1.33 and 2.4 ask for. Every file is sent with its commit, never through LFS or Xet. One
token is accepted; what it may write to are ``OWNERS``.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import ModelCard, constants

TOKEN = "hf_accepted"
OWNERS = ("me", "zoo")
DATE = "2026-11-22T12:00:00.000Z"


@dataclass(frozen=True)
class Commit:
    """All files of a repository at one time."""

    message: str
    files: dict[str, bytes]
    parent: str | None

    @property
    def sha(self) -> str:
        said = [self.message, self.parent, sorted((name, blob_id(body)) for name, body in self.files.items())]
        return hashlib.sha1(json.dumps(said).encode()).hexdigest()


@dataclass
class Repository:
    """Commits by sha; branches and tags by name."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, message: str, files: dict[str, bytes]) -> str:
        """Put a commit at the end of a branch."""
        commit = Commit(message, files, self.branches.get(branch))
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit.sha

    def sha(self, revision: str) -> str:
        """Of a branch, a tag or a commit."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise Refusal(404, "RevisionNotFound")
        return sha


@dataclass
class Hub:
    """What the server holds, and what it is to do wrong.

    Attributes:
        address: ``http://127.0.0.1:…``.
        repositories: By ``owner/repo``.
        cuts: By file name, how many of its next downloads end after the first half of the file.
    """

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Content by name."""
        held = self.repositories[repo]
        return held.commits[held.sha(revision)].files

    def put(self, repo: str, files: dict[str, bytes]) -> str:
        """Commit files without a client: what no push of ours would send."""
        held = self.repositories.setdefault(repo, Repository(private=False))
        before = held.commits[held.branches["main"]].files if held.branches else {}
        return held.add("main", "By hand", {**before, **files})


class Refusal(Exception):  # noqa: N818
    """An answer that is an error."""

    def __init__(self, status: int, code: str = "", message: str = "", url: str = "") -> None:
        super().__init__(message or code)
        self.status, self.code, self.message, self.url = status, code, message, url


def blob_id(body: bytes) -> str:
    """As git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request: ``ROUTES`` says which method answers it, and gets the named parts of its path."""

    hub: ClassVar[Hub]
    ROUTES = (
        ("GET", "/api/whoami-v2", "whoami"),
        ("POST", "/api/validate-yaml", "validate"),
        ("POST", "/api/repos/create", "create"),
        ("GET", "/api/models/{repo}/refs", "refs"),
        ("GET", "/api/models/{repo}/commits/{revision}", "commits"),
        ("GET", "/api/models/{repo}/tree/{revision}", "tree"),
        ("GET", "/api/models/{repo}/revision/{revision}", "info"),
        ("GET", "/api/models/{repo}", "info"),
        ("POST", "/api/models/{repo}/preupload/{revision}", "preupload"),
        ("POST", "/api/models/{repo}/commit/{revision}", "commit"),
        ("POST", "/api/models/{repo}/branch/{name}", "branch"),
        ("POST", "/api/models/{repo}/tag/{revision}", "tag"),
        ("GET", "/{repo}/resolve/{revision}/{name}", "resolve"),
        ("HEAD", "/{repo}/resolve/{revision}/{name}", "resolve"),
    )
    PARTS: ClassVar = {"repo": r"[^/]+/[^/]+", "revision": "[^/]+", "name": ".+"}

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        try:
            self.known = self._check_token()
            function, parts = self._route(urlsplit(self.path).path)
            function(**parts)
        except Refusal as refusal:
            said = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            body = json.dumps({"error": refusal.message, "url": refusal.url}).encode()
            self.send(refusal.status, body, {name: text for name, text in said.items() if text})

    def _check_token(self) -> bool:
        """Whether there is one; to write without is refused, and so is one that is not accepted."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token != TOKEN:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        if self.command == "POST" and not token and self.path != "/api/validate-yaml":
            raise Refusal(401, message="Invalid username or password.")
        return bool(token)

    def _route(self, path: str) -> tuple[Callable[..., None], dict[str, str]]:
        for method, form, function in self.ROUTES:
            pattern = re.sub(r"{(\w+)}", lambda part: f"(?P<{part[1]}>{self.PARTS[part[1]]})", form)
            if method == self.command and (found := re.fullmatch(pattern, path)):
                return getattr(self, function), {name: unquote(part) for name, part in found.groupdict().items()}
        raise Refusal(404)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, upto: int | None = None) -> None:
        """An answer; with ``upto``, only so many bytes of it, and then the connection is closed."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:upto])

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def held(self, repo: str) -> Repository:
        """A repository that whoever asks may see."""
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not self.known):
            raise Refusal(404 if self.known else 401, "RepoNotFound")
        return found

    def whoami(self) -> None:
        if not self.known:
            raise Refusal(401, message="Invalid username or password.")
        self.send_json({"type": "user", "name": "me", "orgs": [{"name": name} for name in OWNERS[1:]]})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        try:
            sound = bool(ModelCard(text))
        except Exception:  # whatever its parser says of it
            sound = False
        said = {"errors": [] if sound else [{"message": "the front matter is no YAML mapping"}], "warnings": []}
        self.send(200 if sound else 400, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def create(self) -> None:
        asked = json.loads(self.body)
        owner = asked.get("organization") or OWNERS[0]
        repo, private = f"{owner}/{asked['name']}", asked.get("private") or asked.get("visibility") == "private"
        if owner not in OWNERS:
            raise Refusal(403, message=f"You have no right to create a model below {owner}")
        if repo in self.hub.repositories:
            raise Refusal(409, message="You already created this model repo", url=f"{self.hub.address}/{repo}")
        self.hub.repositories[repo] = Repository(bool(private))
        self.hub.repositories[repo].add("main", "initial commit", {".gitattributes": b"*.bin binary\n"})
        self.send_json({"url": f"{self.hub.address}/{repo}", "name": repo})

    def refs(self, repo: str) -> None:
        held = self.held(repo)
        kinds = (("branches", "heads", held.branches), ("tags", "tags", held.tags))
        listed = {
            kind: [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": sha} for name, sha in names.items()]
            for kind, folder, names in kinds
        }
        self.send_json({**listed, "converts": []})

    def commits(self, repo: str, revision: str) -> None:
        held = self.held(repo)
        sha: str | None = held.sha(revision)
        listed = []
        while sha:
            commit = held.commits[sha]
            listed.append(
                {"id": sha, "title": commit.message, "message": "", "date": DATE, "authors": [{"user": "me"}]}
            )
            sha = commit.parent
        self.send_json(listed)

    def tree(self, repo: str, revision: str) -> None:
        held = self.held(repo)
        files = held.commits[held.sha(revision)].files
        self.send_json([{"type": "file", "path": n, "size": len(b), "oid": blob_id(b)} for n, b in files.items()])

    def info(self, repo: str, revision: str = "main") -> None:
        held = self.held(repo)
        sha = held.sha(revision)
        files = [{"rfilename": name} for name in held.commits[sha].files]
        about = {"id": repo, "modelId": repo, "author": repo.partition("/")[0], "tags": [], "lastModified": DATE}
        self.send_json({**about, "sha": sha, "private": held.private, "siblings": files})

    def preupload(self, repo: str, revision: str) -> None:
        held = self.held(repo)
        files = held.commits[held.sha(revision)].files
        oids = {name: blob_id(body) for name, body in files.items()}
        asked = [file["path"] for file in json.loads(self.body)["files"]]
        plain = {"uploadMode": "regular", "shouldIgnore": False}
        self.send_json({"files": [{"path": path, "oid": oids.get(path), **plain} for path in asked]})

    def commit(self, repo: str, revision: str) -> None:
        held = self.held(repo)
        if revision not in held.branches:
            raise Refusal(404, "RevisionNotFound")
        lines = [json.loads(line) for line in self.body.splitlines()]
        sent = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
        gone = {x["value"]["path"] for x in lines if x["key"] == "deletedFile"}
        files = {**held.commits[held.branches[revision]].files, **sent}
        kept = {name: body for name, body in files.items() if name not in gone}
        sha = held.add(revision, lines[0]["value"]["summary"], kept)
        self.send_json({"commitUrl": f"{self.hub.address}/{repo}/commit/{sha}", "commitOid": sha, "success": True})

    def branch(self, repo: str, name: str) -> None:
        held = self.held(repo)
        if name in held.branches:
            raise Refusal(409, message="This branch exists already")
        held.branches[name] = held.sha(json.loads(self.body or b"{}").get("startingPoint", "main"))
        self.send_json({})

    def tag(self, repo: str, revision: str) -> None:
        held = self.held(repo)
        held.tags[json.loads(self.body)["tag"]] = held.sha(revision)
        self.send_json({})

    def resolve(self, repo: str, revision: str, name: str) -> None:
        held = self.held(repo)
        sha = held.sha(revision)
        if name not in held.commits[sha].files:
            raise Refusal(404, "EntryNotFound")
        body = held.commits[sha].files[name]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob_id(body)}"', "Accept-Ranges": "bytes"}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first, upto = int(start[1]) if start else 0, None
        if self.command == "GET" and self.hub.cuts.get(name, 0) > 0:
            self.hub.cuts[name] -= 1
            upto = max(0, len(body) // 2 - first)
        if start:
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        self.send(206 if start else 200, body[first:], headers, upto)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def served() -> Iterator[Hub]:
    """An empty Hub that answers."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def connected(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The same, and the client asks it, with the token that it accepts and an empty cache."""
    with served() as hub:
        point_at(hub.address, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client ask this address."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
