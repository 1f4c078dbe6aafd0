"""What is done with text that is broken: refused with its place, skipped or replaced, and counted.

Legal, however odd, is every sequence of Unicode scalar values in UTF-8: NUL, U+2028, a byte order
mark, lines and documents of any length. Broken is what is not UTF-8, and a row that is no row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from raybert.errors import InvalidContent

OnInvalid = Literal["fail", "skip", "replace"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass
class PassedOver:
    """What was broken and let pass: documents left out, and documents mended with U+FFFD."""

    skipped: int = 0
    replaced: int = 0

    def take(self) -> tuple[int, int]:
        """(skipped, replaced) since the last time."""
        counts = self.skipped, self.replaced
        self.skipped = self.replaced = 0
        return counts


@dataclass(frozen=True)
class ContentPolicy:
    """Decodes the documents of one file as `corpus.on_invalid` says.

    Attributes:
        file: named in messages.
        passed_over: where the documents that are skipped or repaired are counted.
    """

    file: str
    on_invalid: OnInvalid
    passed_over: PassedOver

    def broken(self, message: str) -> None:
        """A row that no replacement mends: raises, or counts it as skipped.

        Raises:
            InvalidContent: with `on_invalid="fail"`.
        """
        if self.on_invalid == "fail":
            raise InvalidContent(
                f"{self.file}: {message} (corpus.on_invalid skip would pass over it)"
            )
        self.passed_over.skipped += 1

    def text(self, data: bytes, offset: int) -> str | None:
        """One document, which begins at byte `offset` of the decompressed file; None: skip it."""
        hint = ""
        if offset == 0 and data.startswith(_UTF16_MARKS):
            hint = "; it looks like UTF-16, save it as UTF-8"
        return self._decoded(data, lambda error: f"at byte {offset + error.start}", hint)

    def text_in(self, place: str, data: bytes) -> str | None:
        """A document of a file whose bytes say nothing to a person, by its place in it."""
        return self._decoded(data, lambda error: f"in {place}, byte {error.start} of a text")

    def _decoded(
        self, data: bytes, where: Callable[[UnicodeDecodeError], str], hint: str = ""
    ) -> str | None:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.on_invalid == "replace":
                self.passed_over.replaced += 1
                return data.decode("utf-8", "replace")
            found = f"0x{data[error.start]:02x}, {error.reason}"
            self.broken(f"not UTF-8 {where(error)}: {found}{hint}")
            return None

    def texts(self, documents: pa.Array, offsets: np.ndarray | Sequence[int]) -> pa.Array:
        """Documents (binary, or strings that are checked) as strings, without those to skip.

        `offsets` as in `text`.
        """
        if pa.types.is_string(documents.type):
            return documents
        try:
            return documents.cast(pa.string())
        except pa.ArrowInvalid:
            texts = (
                self.text(document.as_py(), int(offset))
                for document, offset in zip(documents, offsets, strict=True)
            )
            return pa.array([text for text in texts if text is not None], pa.string())
