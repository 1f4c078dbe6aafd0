"""The words that a pretrained model puts where a text says [MASK]."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import rust_tok
from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.hf import load_pretrained
from raybert.errors import UserError

MASK = "[MASK]"


@dataclass(frozen=True)
class Guess:
    """One candidate for a masked token."""

    token: str
    probability: float


def fill_mask(folder: Path | str, texts: Sequence[str], *, top: int = 5) -> list[list[Guess]]:
    """The likeliest tokens for the one [MASK] of each text, best first.

    Args:
        folder: a Hugging Face folder with a pretrained BERT and its tokenizer.json.

    Raises:
        UserError: a text without exactly one [MASK], or longer than the model's positions.
    """
    tokenizer = rust_tok.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    model, _ = load_pretrained(folder, BertForPreTraining)
    model.eval()
    mask_id = tokenizer.token_to_id(MASK)
    if mask_id is None:
        raise UserError(f"{folder}: its tokenizer has no {MASK}")
    encoded = tokenizer.encode_batch(list(texts))
    places = []
    for text, ids in zip(texts, encoded, strict=True):
        if ids.count(mask_id) != 1:
            raise UserError(f"{text!r}: exactly one {MASK} is needed, not {ids.count(mask_id)}")
        if len(ids) > model.config.max_position_embeddings:
            raise UserError(
                f"{text[:40]!r} … has {len(ids)} tokens; the model takes "
                f"{model.config.max_position_embeddings}"
            )
        places.append(ids.index(mask_id))
    batch = PackedBatch.from_sequences(encoded)
    index_S = batch.cu_seqlens[:-1].long() + torch.tensor(places)
    with torch.inference_mode():
        hidden_TD, _ = model.backbone(batch)
        logits_SV = model.mlm(hidden_TD[index_S], model.backbone.embeddings.word.weight)
    best = logits_SV.float().softmax(dim=-1).topk(min(top, logits_SV.shape[1]))
    return [
        [Guess(tokenizer.decode([i]).strip(), p) for i, p in zip(ids, probabilities, strict=True)]
        for ids, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
