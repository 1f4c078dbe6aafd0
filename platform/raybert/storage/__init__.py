"""Files and folders, local or remote, that are either whole or not there."""

from raybert.storage.checksum import (
    Algorithm,
    Digest,
    checksum_of_bytes,
    checksum_of_file,
    new_digest,
)
from raybert.storage.commit import (
    MANIFEST,
    DamagedFile,
    IncompleteFolder,
    NoSpaceLeft,
    committed_file,
    committed_folder,
    remove_folder,
    remove_staging,
    verify_folder,
    write_file,
)
from raybert.storage.location import Location

__all__ = [
    "MANIFEST",
    "Algorithm",
    "DamagedFile",
    "Digest",
    "IncompleteFolder",
    "Location",
    "NoSpaceLeft",
    "checksum_of_bytes",
    "checksum_of_file",
    "committed_file",
    "committed_folder",
    "new_digest",
    "remove_folder",
    "remove_staging",
    "verify_folder",
    "write_file",
]
