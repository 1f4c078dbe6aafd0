"""The files of a tokenizer in a Hugging Face folder.

AutoTokenizer rebuilds a BertTokenizer of its own for a BERT folder, with other ids for cased
vocabularies and for BPE; naming PreTrainedTokenizerFast makes it take tokenizer.json as it is.
"""

from __future__ import annotations

import json
from typing import Any

from raybert.errors import InvalidContent

_SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def tokenizer_files(tokenizer_json: bytes, *, max_length: int) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and the vocabulary in the older files' formats.

    Raises:
        InvalidContent: the content is no tokenizer.json of a WordPiece or BPE tokenizer.
    """
    try:
        content = json.loads(tokenizer_json)
        kind, ids = content["model"]["type"], _ids(content)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidContent(f"this is no tokenizer.json: {error!r}") from error
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **{role: token for role, token in _SPECIAL_TOKENS.items() if token in ids},
    }
    files = {
        "tokenizer.json": tokenizer_json,
        "tokenizer_config.json": _json(config),
    }
    if kind == "WordPiece":
        by_id = sorted(ids, key=ids.__getitem__)
        files["vocab.txt"] = "".join(f"{token}\n" for token in by_id).encode()
    elif kind == "BPE":
        files["vocab.json"] = _json(content["model"]["vocab"])
        merges = (
            merge if isinstance(merge, str) else " ".join(merge)
            for merge in content["model"]["merges"]
        )
        files["merges.txt"] = "".join(f"{line}\n" for line in ("#version: 0.2", *merges)).encode()
    else:
        raise InvalidContent(f"a tokenizer of type {kind!r}; supported are WordPiece and BPE")
    return files


def num_ids(tokenizer_json: bytes) -> int:
    """One more than the largest id, added tokens included."""
    return 1 + max(_ids(json.loads(tokenizer_json)).values())


def _ids(content: dict[str, Any]) -> dict[str, int]:
    """Every token's id, added tokens included."""
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    return {**content["model"]["vocab"], **added}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
