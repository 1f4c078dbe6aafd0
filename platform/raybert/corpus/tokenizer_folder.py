"""The folder of a trained tokenizer: Hugging Face's files, and what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import rust_tok
from raybert.corpus.corpus import Corpus
from raybert.corpus.origin import ORIGIN_NAME, Origin, is_from
from raybert.errors import UserError
from raybert.settings import TokenizerSettings
from raybert.settings.identity import identity_of
from raybert.storage import DamagedFile, Location, committed_folder, verify_folder
from raybert.tokens.format import TOKENIZER_NAME
from raybert.tokens.tokenizer_files import tokenizer_files

# Neither changes a vocabulary.
_OF_SHARDS_ALONE = frozenset({"range_mebibytes", "held_out_share"})
# Of the default model, whose positions end there.
_MAX_LENGTH = 512


@dataclass(frozen=True)
class TokenizerFolder:
    """Where a tokenizer is to be, found to be free or to hold just that one."""

    place: Location
    origin: Origin
    finished: bool

    @classmethod
    def prepare(
        cls, corpus: Corpus, settings: TokenizerSettings, folder: str | Location
    ) -> TokenizerFolder:
        """Checks the folder; writes nothing.

        Raises:
            UserError: it holds something else, a tokenizer of other text or settings (a diff), or
                a file in it is damaged.
        """
        place = Location.parse(folder)
        of_corpus = {
            name: value
            for name, value in identity_of(corpus.settings).items()
            if name not in _OF_SHARDS_ALONE
        }
        origin = Origin(of_corpus | identity_of(settings), corpus.fingerprints)
        finished = is_from(origin, place)
        if finished:
            try:
                verify_folder(place)
            except DamagedFile as error:
                raise UserError(f"{error}; delete {place} to train it again") from error
        return cls(place, origin, finished)

    def read(self) -> rust_tok.Tokenizer:
        return rust_tok.Tokenizer.from_json((self.place / TOKENIZER_NAME).read_text())

    def write(self, tokenizer: rust_tok.Tokenizer) -> None:
        """Commits tokenizer.json, tokenizer_config.json and the vocabulary as one."""
        files = tokenizer_files(tokenizer.to_json().encode(), max_length=_MAX_LENGTH)
        with committed_folder(self.place) as staging:
            for name, content in {**files, ORIGIN_NAME: self.origin.to_json()}.items():
                with (staging / name).open_output_stream() as stream:
                    stream.write(content)
