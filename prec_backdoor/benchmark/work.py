"""How much the mathematics of a task needs, whatever an implementation does: what throughput is held against."""

import numpy as np

from prec_backdoor.benchmark.job import Job

FLOAT = 4  # bytes


def train_flops(job: Job, positions: np.ndarray) -> float:
    """Floating-point operations of the matrix products of training windows of `positions` [U] once, with one negative.

    A multiplication and an addition count as two. With D the width and F the inner width, a position costs forward in each layer
    2 D^2 for each product that attention needs, two with one head (`prec_backdoor.models.transformer`) and four with several, and
    4 D F for the feed-forward layer; and 4 D for the scores of label and negative. Each pair of a position and one that it sees
    (itself too, L (L + 1) / 2 in a window of L) costs 2 D for its logit and 2 D for mixing. The gradients need each product twice
    more. Element-wise work (norms, softmax, GELU, Adam) and padding do not count.
    """
    width, total, pairs = job.embed_dim, positions.sum(), (positions * (positions + 1) / 2).sum()
    a_layer = (4 if job.heads == 1 else 8) * width**2 + 4 * width * job.feedforward_dim
    return float(3 * (total * (job.layers * a_layer + 4 * width) + pairs * job.layers * 4 * width))


def rank_flops(job: Job) -> float:
    """Operations of scoring one user against the whole catalogue, 2 V D; the encoder is left out."""
    return 2.0 * job.items * job.embed_dim


def table_bytes(job: Job, rows: int) -> float:
    """Bytes that Adam moves for `rows` of the item table: reads gradient, weight and two moments, writes the latter three."""
    return 7.0 * rows * job.embed_dim * FLOAT
