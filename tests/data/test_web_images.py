"""Images from addresses: fetched from public hosts only, whatever the address looks like."""

import http.server
import socket
import threading
import time
from typing import ClassVar

import pytest

from abo_vqa.data import web_images
from abo_vqa.data.web_images import FetchError, WebImages

INSIDE = [
    "http://127.0.0.1/a.jpg",
    "http://localhost/a.jpg",
    "http://2130706433/a.jpg",  # decimal
    "http://0x7f000001/a.jpg",
    "http://0177.0.0.1/a.jpg",
    "http://127.1/a.jpg",
    "http://0/a.jpg",
    "http://[::1]/a.jpg",
    "http://[::ffff:127.0.0.1]/a.jpg",
    "http://[::ffff:a00:1]/a.jpg",
    "http://[64:ff9b::7f00:1]/a.jpg",
    "http://[2002:7f00:1::]/a.jpg",  # 6to4
    "http://[fe80::1]/a.jpg",
    "http://[fd00:ec2::254]/latest/meta-data",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
]
OTHERS = {
    "file:///etc/passwd": "only http and https",
    "ftp://example.com/a": "only http and https",
    "gopher://127.0.0.1": "only http and https",
    "http://user:secret@example.com/": "user name",
    "http:///a.jpg": "not a URL",
    "http://[::1/": "not a URL",
    "http://example.com:99999/": "not a URL",
    "http://exa mple.com/": "not a URL",
}


@pytest.mark.parametrize("url", INSIDE)
def test_no_address_leads_inside(url):
    with pytest.raises(FetchError, match="isn't a public host"):
        WebImages().fetch(url)


@pytest.mark.parametrize(("url", "reason"), OTHERS.items())
def test_what_isnt_fetched(url, reason):
    with pytest.raises(FetchError, match=reason) as caught:
        WebImages().fetch(url)
    assert "secret" not in str(caught.value)


class Handler(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list] = []

    def do_GET(self):
        self.asked.append((self.path, self.headers["Host"], self.client_address))
        path, _, port = self.path.partition("?")
        if path == "/inside":
            self.redirect(f"http://127.0.0.1:{port}/image")
        elif path == "/loop":
            self.redirect("/loop")
        elif path == "/once":
            self.redirect("/image")
        elif path == "/error":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            chunks = {"/drip": 100, "/large": 300}.get(path, 1)
            try:
                for _ in range(chunks):
                    self.wfile.write(b"x" * (1 if path == "/drip" else 1000))
                    time.sleep(0.05 if path == "/drip" else 0)
            except OSError:
                pass  # the client has enough

    def redirect(self, target):
        self.send_response(302)
        self.send_header("Location", target)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A server at two addresses of this machine; 127.0.0.2 stands for a public one."""
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.2:{server.server_port}", server.server_port
        server.shutdown()


def fetcher(**options):
    return WebImages(networks=("127.0.0.2/32",), **options)


def test_an_allowed_host_is_fetched_and_redirects_within_it_followed(server):
    url, _ = server
    assert fetcher().fetch(f"{url}/image") == b"x" * 1000
    assert fetcher().fetch(f"{url}/once") == b"x" * 1000


def test_a_redirect_inside_isnt_followed(server):
    url, port = server
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 isn't a public host"):
        fetcher().fetch(f"{url}/inside?{port}")
    assert [path for path, *_ in Handler.asked] == [f"/inside?{port}"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/loop", "redirects"), ("/error", "status 404"), ("/large", "more than 100,000 bytes")],
)
def test_limits_of_a_reply(server, path, reason):
    with pytest.raises(FetchError, match=reason):
        fetcher(max_bytes=100_000).fetch(server[0] + path)


def test_a_reply_that_drips_is_cut_off(server):
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"no answer within 0\.5 s"):
        fetcher(timeout=0.5).fetch(f"{server[0]}/drip")
    assert time.monotonic() - start < 3


def test_headers_that_drip_are_cut_off():
    with socket.create_server(("127.0.0.2", 0)) as listener:

        def drip():
            peer, _ = listener.accept()
            try:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200:
                    peer.send(bytes([byte]))
                    time.sleep(0.05)
            except OSError:
                pass

        threading.Thread(target=drip, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(FetchError, match=r"no answer within 0\.5 s"):
            fetcher(timeout=0.5).fetch(f"http://127.0.0.2:{listener.getsockname()[1]}/")
        assert time.monotonic() - start < 3


def test_the_address_that_was_checked_is_the_one_connected_to(server, monkeypatch):
    """A name server that gives another address the second time (DNS rebinding) gains nothing."""
    _, port = server
    answers = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])
    resolved = []

    def rebinding(host, port, *args, **options):
        if host != "rebind.example":
            return real(host, port, *args, **options)
        resolved.append(next(answers))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (resolved[-1], port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert fetcher().fetch(f"http://rebind.example:{port}/image")
    assert resolved == ["127.0.0.2"]
    assert Handler.asked[0][1] == f"rebind.example:{port}"  # the host keeps its name


def test_one_address_inside_is_enough_to_refuse_a_name(monkeypatch):
    both = [(socket.AF_INET, 1, 6, "", (ip, 80)) for ip in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(web_images.socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(FetchError, match="isn't a public host"):
        WebImages().fetch("http://mixed.example/")
