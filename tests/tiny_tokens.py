"""A small token folder with a real tokenizer, made in a moment."""

import random
import tempfile
from pathlib import Path

import pyarrow as pa

import rust_tok
from raybert.storage import Location, write_file
from raybert.tokens import build_manifest, document_id, id_type, write_shard

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SETTINGS = "test"


def write_tokens(
    folder: Location, num_documents: int = 40, num_shards: int = 2, num_words: int = 120
) -> Location:
    """Documents of two to nine sentences of random words; a fifth of them held out."""
    dice = random.Random(num_documents)
    words = [f"{'abcdefghij'[i % 10]}{i}" for i in range(num_words)]
    vocabulary = (*_SPECIAL, *words)
    with tempfile.TemporaryDirectory() as temporary:
        vocab = Path(temporary) / "vocab.txt"
        vocab.write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
        tokenizer = rust_tok.Tokenizer.from_file(str(vocab))
        tokenizer.save(str(Path(temporary) / "tokenizer.json"))
        content = (Path(temporary) / "tokenizer.json").read_bytes()
    documents = [
        [" ".join(dice.choices(words, k=dice.randint(3, 12))) for _ in range(dice.randint(2, 9))]
        for _ in range(num_documents)
    ]
    token_type = id_type(tokenizer.vocab_size)
    names = [f"shard-{number:03d}" for number in range(num_shards)]
    for number, name in enumerate(names):
        own = documents[number::num_shards]
        ids = [tokenizer.encode_batch(sentences, add_special_tokens=False) for sentences in own]
        write_shard(
            folder,
            name,
            document_ids=pa.array(
                [document_id("\n".join(sentences)) for sentences in own], pa.binary(16)
            ),
            sentences=pa.array(ids, pa.list_(pa.list_(token_type))),
            source=f"part {number}",
            settings=_SETTINGS,
            held_out_share=0.2,
        )
    write_file(folder / "tokenizer.json", content)
    build_manifest(
        folder,
        tokenizer=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        settings=_SETTINGS,
        held_out_share=0.2,
        sources={"dice": "0"},
        shards=names,
    )
    return folder
