"""CoNLL files: a word a line, its tag in the last field, a blank line between sentences."""

from __future__ import annotations

import pyarrow as pa

from raybert.errors import InvalidContent, UserError
from raybert.storage import Location

SUFFIXES = (".conll", ".bio", ".iob", ".iob2")
WORDS, TAGS = "words", "tags"
_DOCUMENT_MARK = "-DOCSTART-"


def read_conll(file: Location) -> pa.Table:
    """The sentences of a file: columns `words` and `tags`, lists of equal length.

    The word is the first field of a line and the tag the last, as in CoNLL-2003; fields are
    separated by blanks or tabs. Lines that begin with "-DOCSTART-", or with "# " where no field
    follows that could be a tag (CoNLL-U comments), are passed over.

    Raises:
        UserError: the file can't be read or holds no sentence.
        InvalidContent: not UTF-8, or a line with a word and no tag.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidContent(f"{file} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{file} can't be read: {error}") from error
    sentences: list[list[str]] = []
    tags: list[list[str]] = []
    inside = False
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if not fields:
            inside = False
            continue
        if fields[0] == _DOCUMENT_MARK or (not inside and line.startswith("# ")):
            continue
        if len(fields) < 2:
            raise InvalidContent(f"{file} line {number}: {line.strip()!r} has a word and no tag")
        if not inside:
            sentences.append([])
            tags.append([])
            inside = True
        sentences[-1].append(fields[0])
        tags[-1].append(fields[-1])
    if not sentences:
        raise UserError(f"{file} holds no sentence")
    lists = pa.list_(pa.string())
    return pa.table({WORDS: pa.array(sentences, lists), TAGS: pa.array(tags, lists)})
