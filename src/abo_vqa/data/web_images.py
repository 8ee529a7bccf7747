"""Images from addresses that strangers name: within limits, and never from inside a network.

Who may name an address could otherwise have the machine call its own services, its neighbours, or
a cloud's metadata. So a host is resolved once, each address it has is checked, and the connection
goes to the checked address itself: a name server that changes its answer (DNS rebinding) gains
nothing. A redirect is a new address, checked like the first.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urljoin, urlsplit

from abo_vqa.core.errors import UserError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 3
_CHUNK = 64 * 1024
# Ranges of IPv6 that lead to an IPv4 address inside them.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class FetchError(UserError):
    """An image that can't be fetched, or mustn't be; the message is a short phrase."""


@dataclass(frozen=True)
class WebImages:
    """Fetches images.

    Attributes:
        max_bytes: of an image.
        timeout: seconds for all of it, redirects included.
        networks: addresses inside a network that may be called nevertheless, e.g. "10.1.0.0/16".
    """

    max_bytes: int = 20_000_000
    timeout: float = 10.0
    networks: tuple[str, ...] = ()

    def fetch(self, url: str) -> bytes:
        """Fetch an image.

        Args:
            url: its address, http or https.

        Returns:
            What the server sent.

        Raises:
            FetchError: the address isn't a public one, the server doesn't answer with a file, or a
                limit is exceeded.
        """
        end = time.monotonic() + self.timeout
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._get(url, end)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise FetchError(f"more than {_MAX_REDIRECTS} redirects")

    def _get(self, url: str, end: float) -> bytes | str:
        """Return the content at an address, or where it redirects to."""
        scheme, host, port, target = _parts(url)
        networks = [ipaddress.ip_network(network) for network in self.networks]
        address = _resolve(host, port, networks)
        left = end - time.monotonic()
        late = FetchError(f"no answer within {self.timeout:g} s")
        if left <= 0:
            raise late
        try:
            with _connect(scheme, host, port, str(address), left) as (connection, sock):
                # What drips in is always in time for the socket's own limit, so this one ends it.
                cut = threading.Timer(left, _shut, [sock])
                cut.daemon = True
                cut.start()
                try:
                    content = self._read(connection, target)
                finally:
                    cut.cancel()
        except (OSError, HTTPException) as error:
            reason = f"the server can't be reached or broke off ({type(error).__name__})"
            raise (late if time.monotonic() >= end else FetchError(reason)) from error
        if time.monotonic() >= end:
            raise late
        return content

    def _read(self, connection: HTTPConnection, target: str) -> bytes | str:
        """Request a file."""
        connection.request("GET", target, headers={"Accept": "image/*"})
        reply = connection.getresponse()
        location = reply.getheader("Location")
        if reply.status in _REDIRECTS and location:
            return location
        if reply.status != 200:
            raise FetchError(f"the server answered with status {reply.status}")
        data = bytearray()
        while chunk := reply.read(_CHUNK):
            data += chunk
            if len(data) > self.max_bytes:
                raise FetchError(f"more than {self.max_bytes:,} bytes")
        return bytes(data)


def _parts(url: str) -> tuple[str, str, int, str]:
    """Return an address's scheme, host, port, and path with query.

    Raises:
        FetchError: it isn't one that is fetched.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError(f"not a URL ({error})") from error
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise FetchError("only http and https URLs are fetched")
    if parts.username is not None or parts.password is not None:
        raise FetchError("URLs with a user name aren't fetched")
    if not parts.hostname or any(c.isspace() or ord(c) < 32 for c in url):
        raise FetchError("not a URL")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return scheme, parts.hostname, port or _PORTS[scheme], target


def _resolve(host: str, port: int, networks: Sequence[_Network]) -> _Address:
    """Return the address to connect to.

    All addresses of a name must be allowed: one that also leads inside is no honest one.

    Raises:
        FetchError: the host is unknown, or isn't a public one.
    """
    try:
        results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"no host is called {host[:100]}") from error
    addresses = [ipaddress.ip_address(str(r[4][0]).partition("%")[0]) for r in results]
    if not addresses or not all(_is_allowed(address, networks) for address in addresses):
        raise FetchError(f"{host[:100]} isn't a public host: such URLs aren't fetched")
    return addresses[0]


def _is_allowed(address: _Address, networks: Sequence[_Network]) -> bool:
    """Tell whether an address may be connected to."""
    real = _embedded(address)
    if any(real in network for network in networks):
        return True
    # `is_global` is False for private, loopback, link-local (with the clouds' metadata), shared,
    # documentation and reserved ranges; multicast has global ones.
    return real.is_global and not real.is_multicast and not real.is_reserved


def _embedded(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address leads to, if there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@contextmanager
def _connect(
    scheme: str, host: str, port: int, address: str, timeout: float
) -> Iterator[tuple[HTTPConnection, socket.socket]]:
    """Connect to an address, which has to prove that it is the host (https)."""
    with socket.create_connection((address, port), timeout) as plain:
        sock: socket.socket = plain
        connection = HTTPConnection(host, port)  # its name is the header Host
        connection.default_port = _PORTS[scheme]
        if scheme == "https":  # from here on the first object is empty
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        connection.sock = sock
        try:
            yield connection, sock
        finally:
            connection.close()


def _shut(sock: socket.socket) -> None:
    """End a connection: the reader gets an error, or the end of the file."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
