"""Which texts mean about the same, by the angle between their embeddings."""

from collections.abc import Sequence

import numpy as np

from raybert.inference import TextModel


def nearest(
    model: TextModel, queries: Sequence[str], texts: Sequence[str], top: int = 2
) -> list[list[tuple[float, str]]]:
    """The texts nearest to each query with their cosine, nearest first."""
    query_QD = model.embed(queries, normalize=True)
    text_ND = model.embed(texts, normalize=True)
    cosine_QN = query_QD.astype(np.float32) @ text_ND.astype(np.float32).T
    order_QN = np.argsort(-cosine_QN, axis=1, kind="stable")[:, :top]
    return [
        [(float(cosine_QN[q, n]), texts[n]) for n in map(int, order)]
        for q, order in enumerate(order_QN)
    ]
