"""What the model learns from: sentence pairs and masks."""

from raybert.settings.marks import Section, identity


class SampleSettings(Section):
    """How documents become training samples (BERT, Devlin et al. 2019, section 3.1)."""

    max_length: int = identity(128, "tokens of a sample, special tokens included", ge=8)
    masking_rate: float = identity(0.15, "share of tokens to predict", gt=0, le=0.5)
    whole_word_masking: bool = identity(False, "mask all pieces of a word together")
    next_sentence: bool = identity(True, "sentence pairs and the next-sentence loss")
    short_share: float = identity(0.1, "share of samples that are cut short", ge=0, lt=1)
    shuffle_shards: int = identity(16, "shards whose samples are mixed with each other", ge=1)
