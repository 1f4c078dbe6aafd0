# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # One training step, part by part
#
# The tokenizer, the samples, the model and the engine run in a plain Python process. This note
# trains a tokenizer on a handful of documents, looks at a batch, and takes a few steps.

# %%
import torch

import rust_tok
from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.dropout import DropoutKey
from bert.loss import pretraining_sums
from raybert.settings import PretrainingSettings
from raybert.training.engine import Engine
from raybert.training.objectives import PretrainingObjective

torch.set_num_threads(1)

# %% [markdown]
# ## The tokenizer
#
# WordPiece, trained in Rust. A text column goes in by the Arrow C data interface, ids come out.

# %%
texts = [
    f"The {animal} sleeps in the {place}. It wakes when the {sound} begins."
    for animal in ("cat", "dog", "horse", "owl")
    for place in ("house", "garden", "barn")
    for sound in ("rain", "music", "wind")
]
tokenizer = rust_tok.train_wordpiece(texts, vocab_size=120, min_frequency=1)
ids = tokenizer.encode(texts[0])
print(tokenizer.vocab_size, ids, tokenizer.decode(ids))

# %% [markdown]
# ## A packed batch
#
# Sequences stand end to end: no padding is stored, moved or computed.

# %%
first, second = (tokenizer.encode_batch(part) for part in (texts[:4], texts[4:8]))
sep = tokenizer.token_to_id("[SEP]")
pairs = [a + b[1:] for a, b in zip(first, second, strict=True)]
segments = [[0] * len(a) + [1] * (len(b) - 1) for a, b in zip(first, second, strict=True)]
plain = PackedBatch.from_sequences(pairs, segments, next_sentence_labels=[0, 1, 0, 1])
masked_index = torch.arange(2, plain.num_tokens, 7)
masked_ids = plain.input_ids.clone()
masked_ids[masked_index] = tokenizer.token_to_id("[MASK]")
batch = PackedBatch(
    input_ids=masked_ids,
    position_ids=plain.position_ids,
    token_type_ids=plain.token_type_ids,
    lengths=plain.lengths,
    cu_seqlens=plain.cu_seqlens,
    masked_index=masked_index,
    masked_labels=plain.input_ids[masked_index],
    next_sentence_labels=plain.next_sentence_labels,
)
print(batch.lengths, "->", batch.num_tokens, "tokens,", batch.num_masked, "to predict")

# %% [markdown]
# ## Dropout is a function
#
# The bits are a hash of (seed, step, micro-shard, layer, site, element): the same key gives the
# same loss, another step another one.

# %%
config = BertConfig.named("tiny", vocab_size=tokenizer.vocab_size)
model = BertForPreTraining(config, seed=0)
losses = [
    pretraining_sums(model, batch, DropoutKey(seed=1, step=step, micro_shard=0)).mean().item()
    for step in (0, 0, 1)
]
print(losses)
assert losses[0] == losses[1] != losses[2]

# %% [markdown]
# ## Steps
#
# The engine makes the parameters views of one flat buffer, adds the micro-shards' gradients along
# a fixed tree, clips, and lets AdamW run over the buffer.

# %%
settings = PretrainingSettings(steps=60, batch_size=4, learning_rate=2e-3, warmup_steps=5)
engine = Engine(model, PretrainingObjective(), settings, num_micro_shards=1)
history = [engine.step(step, [batch]).loss for step in range(60)]
print([round(loss, 2) for loss in history[::10]], "->", round(history[-1], 2))
assert history[-1] < 0.5 * history[0]
