import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trio_rt.errors import MisuseError
from trio_rt.web.messages import Request, Response
from trio_rt.web.pages import Pages

from .peer import Peer


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory to show, beside one with secrets."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "site-secret").mkdir()
    (tmp_path / "site-secret" / "key.txt").write_text("secret")
    root = tmp_path / "site"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "index.html").write_text("<p>home")
    (root / "sub" / "index.html").write_text("<p>sub")
    (root / "app.js").write_text("1")
    (root / "mod.mjs").write_text("2")
    (root / "a b ä.css").write_text("p {}")
    (root / "data.unknown").write_bytes(b"\x00")
    (root / "nothing.txt").write_bytes(b"")
    (root / ".env").write_text("secret")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    (root / "out.txt").symlink_to(tmp_path / "secret.txt")
    (root / "out").symlink_to(tmp_path)
    (root / "env.txt").symlink_to(root / ".env")
    (root / "loop").symlink_to(root / "loop")
    (root / "in.js").symlink_to(root / "app.js")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def pages(site: Path) -> Pages:
    pages = Pages()
    pages.static("/", site)
    pages.static("/lib/", site / "sub", headers={"Cache-Control": "max-age=60"})
    pages.page("/healthz", "ok")
    return pages


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        ("/", b"<p>home", "text/html; charset=utf-8"),
        ("/index.html", b"<p>home", "text/html; charset=utf-8"),
        ("/sub/", b"<p>sub", "text/html; charset=utf-8"),
        ("/lib/", b"<p>sub", "text/html; charset=utf-8"),
        ("/app.js", b"1", "text/javascript; charset=utf-8"),
        ("/in.js", b"1", "text/javascript; charset=utf-8"),
        ("/mod.mjs", b"2", "text/javascript; charset=utf-8"),
        ("/a%20b%20%C3%A4.css", b"p {}", "text/css; charset=utf-8"),
        ("/data.unknown", b"\x00", "application/octet-stream"),
        ("/nothing.txt", b"", "text/plain; charset=utf-8"),
        ("/healthz", b"ok", "text/plain; charset=utf-8"),
    ],
)
async def test_shows(peer: Peer, path: str, body: bytes, content_type: str) -> None:
    """Files, directories and pages are shown with their types."""
    answer = await peer.ask(path)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == content_type
    head = await peer.ask(path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(body))


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/sub/..%2f..%2fsecret.txt",
        "/../site-secret/key.txt",
        "//secret.txt",
        "/%2fetc/passwd",
        "//etc/passwd",
        "/lib//etc/passwd",
        "/C:%5csecret.txt",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/out.txt",
        "/out/secret.txt",
        "/out/site-secret/key.txt",
        "/env.txt",
        "/loop",
        "/pipe",
        "/empty",
        "/empty/",
        "/app.js/",
        "/app.js/x",
        "/nothing",
        "/libx",
        "/./app.js",
        "/sub/./index.html",
        "/%252e%252e/secret.txt",
        "/" + "x" * 300,
    ],
)
async def test_does_not_show(peer: Peer, path: str) -> None:
    """Nothing outside the directory, hidden, or of another kind is there."""
    answer = await peer.ask(path)
    assert answer.status == 404
    assert b"secret" not in answer.body
    assert (await peer.ask("/healthz")).body == b"ok"


async def test_nul_is_refused(peer: Peer) -> None:
    """A path with a NUL never reaches the file system."""
    assert (await peer.ask("/app.js%00.html")).status == 400


@pytest.mark.parametrize(("path", "location"), [("/sub", "/sub/"), ("/lib", "/lib/")])
async def test_slash(peer: Peer, path: str, location: str) -> None:
    """A directory's page has the slash that its relative links need."""
    answer = await peer.ask(path)
    assert (answer.status, answer.headers["location"]) == (308, location)


@pytest.mark.parametrize("path", ["//evil.example/..", "//evil.example", "//sub", "/%2fsub"])
async def test_no_open_redirect(peer: Peer, path: str) -> None:
    """No path sends the browser to another host."""
    assert (await peer.ask(path)).status == 404


async def test_not_modified(peer: Peer, site: Path) -> None:
    """Who has the file is told so, until it is written."""
    fresh = await peer.ask("/app.js")
    etag = fresh.headers["etag"]
    assert fresh.headers["cache-control"] == "no-cache"
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = await peer.ask("/app.js", if_none_match=known)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
        assert answer.headers["cache-control"] == "no-cache"
    assert (await peer.ask("/app.js", if_none_match='"other"')).status == 200
    (site / "app.js").write_text("changed")
    assert (await peer.ask("/app.js", if_none_match=etag)).body == b"changed"


async def test_big_file(peer: Peer, site: Path) -> None:
    """A file of many pieces arrives whole."""
    content = os.urandom(1_000_000)
    (site / "big.wasm").write_bytes(content)
    answer = await peer.ask("/big.wasm")
    assert answer.body == content
    assert answer.headers["content-type"] == "application/wasm"


async def test_file_that_shrinks(peer: Peer, site: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that changes while it is sent is cut, not mixed."""
    big = site / "big.bin"
    big.write_bytes(b"x" * 5_000_000)
    await peer.send(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
    await peer.stream.receive_some(1)
    big.write_bytes(b"y")
    received = 0
    while data := await peer.stream.receive_some(65_536):
        received += len(data)
        assert b"y" not in data.partition(b"\r\n\r\n")[2]
    assert received < 5_000_000
    assert "changed while it was sent" in caplog.text


async def test_failing_disk(
    peer: Peer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine in trouble is an error of ours, not a file that is not there."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(Path, "resolve", fail)
    assert (await peer.ask("/app.js")).status == 500
    assert "too many open files" in caplog.text


async def test_default_headers(peer: Peer, pages: Pages) -> None:
    """Each response has the security headers, which may be changed for all, or for one mount."""
    answer = await peer.ask("/")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "strict-origin-when-cross-origin"
    policy = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:"
    assert answer.headers["content-security-policy"] == policy
    pages.header("Content-Security-Policy", "default-src *")
    pages.header("Referrer-Policy", None)
    answer = await peer.ask("/nothing")
    assert answer.headers["content-security-policy"] == "default-src *"
    assert "referrer-policy" not in answer.headers
    assert (await peer.ask("/lib/")).headers["cache-control"] == "max-age=60"


async def test_only_get(peer: Peer) -> None:
    """Files are only read."""
    answer = await peer.ask("/app.js", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def route(request: Request) -> Response:
    return Response()


def sync_route(request: Request) -> Response:
    return Response()


async def no_request() -> Response:
    return Response()


class Callee:
    async def __call__(self, request: Request) -> Response:
        return Response()


async def with_extra(extra: int, request: Request) -> Response:
    return Response()


@pytest.mark.parametrize(
    "good", [route, Callee(), partial(with_extra, 1)], ids=["function", "object", "partial"]
)
def test_registers(good: Any) -> None:
    """Whatever is async and takes a request is a route; it stays what it was."""
    pages = Pages()
    assert pages.get("/a")(good) is good
    assert pages.post("/a")(good) is good
    assert pages.match("HEAD", "/a").handler is good


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda pages: pages.get(route), "is no path"),
        (lambda pages: pages.get("a"), "begins with a slash"),
        (lambda pages: pages.get("/a?b"), "without a query"),
        (lambda pages: pages.post("/a%20b"), "decoded"),
        (lambda pages: pages.get("/a")(sync_route), "sync_route is not an async function"),
        (lambda pages: pages.get("/a")(no_request), "no_request has to take one request"),
        (lambda pages: pages.get("/taken")(route), "GET /taken has a route already"),
        (lambda pages: pages.page("/taken", "x"), "GET /taken has a route already"),
        (lambda pages: pages.static("a", "."), "begins with a slash"),
        (lambda pages: pages.static("/a", "/nowhere"), "'/nowhere' is no directory"),
        (lambda pages: pages.static("/shown/", "."), "shows a directory already"),
        (lambda pages: pages.static("/a", ".", headers={"a": "\n"}), "no valid HTTP header"),
        (lambda pages: pages.header("a", "b\r\nc: d"), "no valid HTTP header"),
        (lambda pages: pages.header("content-type", "a/b"), "is set from the response"),
    ],
)
def test_misuse(wrong: Any, told: str) -> None:
    """Misuse is told at registration, with the right call."""
    pages = Pages()
    pages.get("/taken")(route)
    pages.static("/shown", ".")
    with pytest.raises(MisuseError, match=told):
        wrong(pages)
