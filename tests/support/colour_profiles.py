"""Colour profiles made by hand, as small as ICC allows: Pillow makes none but sRGB."""

import struct

D50 = (0.9642, 1.0, 0.8249)
# What the three primaries of a wide gamut (Adobe's RGB of 1998) are in XYZ.
WIDE = {b"rXYZ": (0.6097, 0.3111, 0.0195), b"gXYZ": (0.2053, 0.6257, 0.0609)}
WIDE[b"bXYZ"] = (0.1492, 0.0632, 0.7446)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(kind: bytes, space: bytes, connection: bytes, name: str, **tags: bytes) -> bytes:
    """An ICC profile of version 2 with a name, a copyright, a white point and these tags."""
    text = name.encode() + b"\0"
    named = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    every = {"desc": named, "cprt": b"text\0\0\0\0-\0", "wtpt": b"XYZ \0\0\0\0" + fixed(*D50)}
    every |= tags
    start, table, body = 132 + 12 * len(every), b"", b""
    for tag, value in every.items():
        table += tag.encode() + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, kind, space, connection)
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(every)) + table + body


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def wide_gamut() -> bytes:
    """RGB whose colours are stronger than sRGB's of the same numbers."""
    primaries = {tag.decode(): b"XYZ \0\0\0\0" + fixed(*xyz) for tag, xyz in WIDE.items()}
    curves = {f"{letter}TRC": curve(2.2) for letter in "rgb"}
    return profile(b"mntr", b"RGB ", b"XYZ ", "wide gamut", **primaries, **curves)


def linear_grey() -> bytes:
    return profile(b"mntr", b"GRAY", b"XYZ ", "linear grey", kTRC=curve(1))


def inks() -> bytes:
    """CMYK, by a table of what all 16 mixtures of full inks look like in Lab."""
    table = []
    for mixture in range(16):
        c, m, y, k = ((mixture >> shift) & 1 for shift in (3, 2, 1, 0))
        light = 100 * (1 - 0.4 * c) * (1 - 0.5 * m) * (1 - 0.1 * y) * (1 - k)
        a, b = (70 * m - 40 * c) * (1 - k), (80 * y + 5 * m - 40 * c) * (1 - k)
        table += [round(light * 2.55), round(a + 128), round(b + 128)]
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut += bytes(range(256)) * 4 + bytes(min(255, max(0, v)) for v in table) + bytes(range(256)) * 3
    return profile(b"prtr", b"CMYK", b"Lab ", "inks", A2B0=lut)
