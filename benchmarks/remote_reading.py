"""Images from a tar on object storage, through an S3 server on this machine, against the local tar.

    python benchmarks/remote_reading.py                     # 100,000 members, 830 MB
    python benchmarks/remote_reading.py --members 3000 --delay-ms 20

The server is a few lines of Python in a process of its own, which answer what s3fs asks. No real
store replies in less than some milliseconds: --delay-ms adds such a wait to each reply, so that the
effect of requests in parallel shows. Images are compared with the local tar's. "Kept" is what was
read before and lies on the local disk.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.abo_shaped import image_ids, write_images

CACHE = Path(__file__).parent.parent / ".cache" / "abo-vqa" / "benchmarks"
MEAN_BYTES = 7_500
SERVER = """
import os, re, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port, tar, delay = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]) / 1000
file, size = os.open(tar, os.O_RDONLY), os.stat(tar).st_size
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        time.sleep(delay)
        span = re.fullmatch(r"bytes=(\\d+)-(\\d+)", self.headers.get("Range") or "")
        start, end = (int(span[1]), int(span[2]) + 1) if span else (0, size)
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(os.pread(file, end - start, start))
    do_HEAD = do_GET
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 256
Server(("127.0.0.1", port), Handler).serve_forever()
"""


@contextmanager
def server(tar: Path, delay: float) -> Iterator[str]:
    """A server that answers S3's reads with ranges of one file; returns its endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port), str(tar), str(delay)])
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            time.sleep(0.1)
        yield endpoint
    finally:
        process.terminate()
        process.wait()


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000, help="(%(default)s)")
    parser.add_argument("--images", type=int, default=1_500, help="images read (%(default)s)")
    parser.add_argument("--delay-ms", type=float, default=0, help="of each reply (%(default)s)")
    args = parser.parse_args()

    raw = CACHE / f"tar-{args.members}"
    ids = image_ids(args.members, 0)
    tar = raw / "abo-images-small.tar"
    if not tar.exists():
        write_images(raw, ids, MEAN_BYTES)
    chosen = [f"images/small/{path}" for _, path in ids]
    random.Random(0).shuffle(chosen)
    chosen = chosen[: args.images]
    with server(tar, args.delay_ms) as endpoint, tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            AWS_ENDPOINT_URL=endpoint,
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            AWS_DEFAULT_REGION="us-east-1",
            DVC_ROOT=folder,  # the cache's place
        )
        size = tar.stat().st_size / 1e6
        print(f"{args.members:,} members, {size:,.0f} MB; {args.delay_ms:g} ms for each reply")
        measure(tar, chosen, Path(folder))


def measure(tar: Path, chosen: list[str], folder: Path) -> None:
    """Read the same images in every way."""
    from abo_vqa.data.members import TarMembers, index_path
    from abo_vqa.data.remote_tar import RemoteTarMembers

    url = f"s3://abo/{tar.name}"
    index_path(tar).unlink(missing_ok=True)
    local = TarMembers(tar)
    expected = [local.read(name) for name in chosen]
    size = sum(map(len, filter(None, expected)))
    print(f"{'':44}{'s':>8}{'images/s':>10}{'MB moved':>10}")

    def row(title: str, seconds: float, count: int, moved: float) -> None:
        rate = f"{count / seconds:,.0f}" if count else ""
        print(f"{title:44}{seconds:8.2f}{rate:>10}{moved / 1e6:10.2f}")

    def read_all(members: TarMembers | RemoteTarMembers) -> None:
        assert [members.read(name) for name in chosen] == expected, "the two ways differ"

    members: list[RemoteTarMembers] = []
    seconds = timed(lambda: members.append(RemoteTarMembers(url)))
    remote = members[0]
    row("build the index, remote", seconds, 0, remote.remote.transferred)
    row("open with the kept index, remote", timed(lambda: RemoteTarMembers(url).close()), 0, 0)
    row("read, local tar", timed(lambda: read_all(local)), len(chosen), 0)
    before = remote.remote.transferred
    row("read one by one, remote", timed(lambda: read_all(remote)), len(chosen),
        remote.remote.transferred - before)  # fmt: skip
    row("read again, kept", timed(lambda: read_all(remote)), len(chosen), 0)
    remote.close()
    for kept in folder.glob(".cache/abo-vqa/remote/*/*/[cm]*"):
        kept.unlink()
    remote = RemoteTarMembers(url)
    seconds = timed(lambda: (remote.prefetch(chosen), read_all(remote)))
    row("fetched ahead, many at a time, remote", seconds, len(chosen), remote.remote.transferred)
    remote.close()
    local.close()
    print(f"the images have {size / 1e6:.2f} MB")
    shutil.rmtree(folder / ".cache", ignore_errors=True)


if __name__ == "__main__":
    main()
