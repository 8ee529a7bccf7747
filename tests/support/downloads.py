"""Tar archives that a server sends: two versions of one."""

import hashlib
import io
import random
import tarfile


def tar_of(seed: int, members: int = 40) -> bytes:
    """A real tar of about 200 KB with random content."""
    out, rng = io.BytesIO(), random.Random(seed)
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(members):
            member = tarfile.TarInfo(f"images/small/{i:02x}/{i:08x}.jpg")
            member.size = 5000
            tar.addfile(member, io.BytesIO(rng.randbytes(member.size)))
    return out.getvalue()


OLD, NEW = tar_of(1), tar_of(2)


SHA = hashlib.sha256(OLD).hexdigest()
