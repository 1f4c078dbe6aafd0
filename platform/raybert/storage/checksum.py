"""Checksums of what is on disk: blake2b with a 16-byte digest, in hex (RFC 7693)."""

import hashlib

from raybert.storage.location import Location

_BLOCK_BYTES = 1 << 22
_DIGEST_BYTES = 16


def checksum_of_bytes(data: bytes | memoryview) -> str:
    """32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def checksum_of_file(location: Location) -> str:
    """32 hexadecimal digits of a file's bytes, read in blocks of 4 MiB."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    with location.open_input_stream() as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
