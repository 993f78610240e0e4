"""Files under a directory, found without ever leaving it, and read piece by piece.

All of it works in a few threads of its own, so a slow disk neither stops the loop nor uses up the
threads of the program. No descriptor stays open while a slow client reads.
"""

import errno
import os
import stat
from pathlib import Path, PurePosixPath

import attrs
import trio

# Not from `mimetypes`: its answers differ with the machine's own tables, and a module script with
# the wrong type does not run under `nosniff`.
CONTENT_TYPES = {
    ".avif": "image/avif",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".gif": "image/gif",
    ".glb": "model/gltf-binary",
    ".gz": "application/gzip",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".ogg": "audio/ogg",
    ".otf": "font/otf",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".zip": "application/zip",
}

# What a path that came from outside may fail with; anything else is the machine's trouble.
_NOT_THERE = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
)


class FileChanged(Exception):
    """A file is not the one any more whose length was promised."""


@attrs.frozen
class File:
    """A regular file as it was when it was found."""

    path: Path
    """Resolved: no part of it is a symbolic link."""

    size: int
    """Bytes."""

    modified_ns: int
    """Nanoseconds since 1970."""

    threads: trio.CapacityLimiter = attrs.field(eq=False, repr=False)
    """How many threads may read at once."""

    @property
    def etag(self) -> str:
        """A validator that changes when the file is written (RFC 9110, section 8.8.3)."""
        return f'"{self.modified_ns:x}-{self.size:x}"'

    @property
    def content_type(self) -> str:
        """By its suffix; bytes of no known kind if that says nothing."""
        return CONTENT_TYPES.get(self.path.suffix.lower(), "application/octet-stream")

    async def read(self, offset: int, size: int) -> bytes:
        """Reads up to `size` bytes from `offset` on. Cancelling it leaves the thread to itself.

        Raises:
            FileChanged: if it was written, or cut short, since it was found.
            OSError: if it cannot be read.
        """
        return await trio.to_thread.run_sync(
            self._read, offset, size, limiter=self.threads, abandon_on_cancel=True
        )

    def _read(self, offset: int, size: int) -> bytes:
        with open(self.path, "rb", buffering=0) as file:
            now = os.fstat(file.fileno())
            file.seek(offset)
            piece = file.read(size)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.modified_ns) or not piece:
            raise FileChanged(f"{self.path} changed while it was sent")
        return piece


@attrs.frozen
class Directory:
    """A directory that has an `index.html`."""


async def find(
    root: Path, parts: tuple[str, ...], threads: trio.CapacityLimiter
) -> File | Directory | None:
    """Finds what is at `parts` under `root`, or `None` if nothing may be seen there.

    Cancelling it leaves the thread to itself.

    Args:
        root: a resolved directory.
        parts: from `split`.
        threads: how many threads may look at once.

    Raises:
        OSError: if the machine failed, such as for want of descriptors.
    """
    return await trio.to_thread.run_sync(
        _find, root, parts, threads, limiter=threads, abandon_on_cancel=True
    )


def split(path: str) -> tuple[str, ...] | None:
    """The parts of a decoded URL path; `None` if no file can be there.

    Refused are empty parts, whatever starts with a dot (`.`, `..` and hidden files), and the
    characters that some system takes for a separator, a drive or the end.
    """
    parts = path.removeprefix("/").split("/")
    if parts[-1] == "":
        parts[-1] = "index.html"
    for part in parts:
        if not part or part.startswith(".") or not part.isprintable() or set(part) & {"\\", ":"}:
            return None
    return tuple(parts)


def _find(
    root: Path, parts: tuple[str, ...], threads: trio.CapacityLimiter
) -> File | Directory | None:
    try:
        path = root.joinpath(*parts).resolve(strict=True)
        found = path.stat()
        if not _is_visible(root, path):
            return None
        if stat.S_ISREG(found.st_mode):
            return File(path, found.st_size, found.st_mtime_ns, threads)
        if stat.S_ISDIR(found.st_mode) and (path / "index.html").is_file():
            return Directory()
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    except RuntimeError:  # `resolve` before Python 3.13: a loop of links
        pass
    return None


def _is_visible(root: Path, path: Path) -> bool:
    """Whether a resolved path lies under `root`, and no link led to a hidden file."""
    if not path.is_relative_to(root):
        return False
    inside = PurePosixPath(path.relative_to(root).as_posix())
    return not any(part.startswith(".") for part in inside.parts)
