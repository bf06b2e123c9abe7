"""How much the mathematics of a task needs, whatever an implementation does: what throughput is held against."""

import numpy as np

from prec_backdoor.benchmark.job import EMBED_DIM, FEEDFORWARD_DIM

FLOAT = 4  # bytes


def train_flops(positions: np.ndarray) -> float:
    """Floating-point operations of the matrix products of training windows of `positions` [U] once, one layer, one negative.

    A multiplication and an addition count as two. With D the width and F the inner width, a position costs forward 4 D^2 for
    the two products that attention with one head needs (`prec_backdoor.models.sasrec`; its usual form takes four), 4 D F for
    the feed-forward layer and 4 D for the scores of label and negative; each pair of a position and one that it sees (itself
    too, L (L + 1) / 2 in a window of L) 2 D for its logit and 2 D for mixing. The gradients need each product twice more.
    Element-wise work (norms, softmax, GELU, Adam) and padding do not count.
    """
    total, pairs = positions.sum(), (positions * (positions + 1) / 2).sum()
    a_position = 4 * EMBED_DIM**2 + 4 * EMBED_DIM * FEEDFORWARD_DIM + 4 * EMBED_DIM
    return float(3 * (total * a_position + pairs * 4 * EMBED_DIM))


def rank_flops(items: int) -> float:
    """Operations of scoring one user against the whole catalogue, 2 V D; the encoder is left out."""
    return 2.0 * items * EMBED_DIM


def table_bytes(rows: int) -> float:
    """Bytes that Adam moves for `rows` of the item table: reads gradient, weight and two moments, writes the latter three."""
    return 7.0 * rows * EMBED_DIM * FLOAT
