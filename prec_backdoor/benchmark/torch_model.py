"""The same SASRec in torch: width, layers, norms, positions and scoring as in `prec_backdoor.models.sasrec`."""

import torch
import torch.nn.functional as F
from torch import nn

from prec_backdoor.benchmark.job import Job

EPSILON = 1e-6  # flax's
SPREAD = 0.02


class Block(nn.Module):
    """Self-attention and a feed-forward layer, post-layer-norm."""

    def __init__(self, job: Job):
        super().__init__()
        width = job.embed_dim
        self.heads = job.heads
        self.projections = nn.Linear(width, 3 * width)  # query, key and value in one product
        self.attention_out = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width, EPSILON)
        self.feedforward_in = nn.Linear(width, job.feedforward_dim)
        self.feedforward_out = nn.Linear(job.feedforward_dim, width)
        self.norm_feedforward = nn.LayerNorm(width, EPSILON)

    def forward(self, x: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.projections(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible, is_causal=visible is None)
        x = self.norm_attention(x + self.attention_out(mixed.transpose(1, 2).flatten(-2)))
        return self.norm_feedforward(x + self.feedforward_out(F.gelu(self.feedforward_in(x), approximate="tanh")))


class SASRec(nn.Module):
    """The item table [V + 1, D] is tied for input and scoring; row 0 is padding."""

    def __init__(self, job: Job):
        super().__init__()
        self.items = nn.Embedding(job.items + 1, job.embed_dim)
        self.positions = nn.Embedding(job.max_length, job.embed_dim)
        self.norm_in = nn.LayerNorm(job.embed_dim, EPSILON)
        self.blocks = nn.ModuleList(Block(job) for _ in range(job.layers))
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=SPREAD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, vectors: torch.Tensor, position: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states [B, L, D] of item vectors [B, L, D].

        Args:
          position: [B, L] int64, the most recent item at max_length - 1.
          visible: [B, 1, L, L] bool; by default every position sees itself and all before, right if padding is at the back.
        """
        x = self.norm_in(vectors + self.positions(position))
        for block in self.blocks:
            x = block(x, visible)
        return x

    def represent(self, history: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors [B, D] after histories [B, L], 0-padded at the back, of `lengths` [B]."""
        hidden = self(self.items(history), back_positions(lengths, history.shape[1], len(self.positions.weight)))
        return hidden[torch.arange(len(history), device=history.device), lengths - 1]


def back_positions(lengths: torch.Tensor, columns: int, max_length: int) -> torch.Tensor:
    """[B, columns] indices of positions in sequences padded at the back; padding gets the last index, which nobody sees."""
    index = max_length - lengths[:, None] + torch.arange(columns, device=lengths.device)
    return index.clamp(max=max_length - 1)
