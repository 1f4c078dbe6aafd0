"""Checksums of what is on disk, of 16 bytes, in hex.

blake2b (RFC 7693) names things: nobody can make two of one name. XXH3 (128 bits, the canonical form
of its reference implementation) finds damage at the speed of memory; it is not cryptographic.
"""

import hashlib
from typing import Literal, Protocol

import xxhash

from raybert.storage.location import Location

Algorithm = Literal["blake2b", "xxh3"]

_BLOCK_BYTES = 1 << 22
_DIGEST_BYTES = 16


class Digest(Protocol):
    """A checksum in the making; large pieces are read without the GIL."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


def new_digest(algorithm: Algorithm = "blake2b") -> Digest:
    """Of no bytes so far."""
    if algorithm == "xxh3":
        return xxhash.xxh3_128()
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def checksum_of_bytes(data: bytes | memoryview, algorithm: Algorithm = "blake2b") -> str:
    """32 hexadecimal digits."""
    digest = new_digest(algorithm)
    digest.update(data)
    return digest.hexdigest()


def checksum_of_file(location: Location, algorithm: Algorithm = "blake2b") -> str:
    """32 hexadecimal digits of a file's bytes, read in blocks of 4 MiB."""
    digest = new_digest(algorithm)
    with location.open_input_stream() as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
