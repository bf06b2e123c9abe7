"""The same SASRec in torch: width, layers, norms, positions and scoring as in `prec_backdoor.models.sasrec`."""

import torch
import torch.nn.functional as F
from torch import nn

from prec_backdoor.benchmark.job import EMBED_DIM, FEEDFORWARD_DIM

EPSILON = 1e-6  # flax's
SPREAD = 0.02


class SASRec(nn.Module):
    """One block, one head, post-layer-norm; the item table [V + 1, D] is tied for input and scoring, row 0 padding."""

    def __init__(self, num_items: int, max_length: int):
        super().__init__()
        self.items = nn.Embedding(num_items + 1, EMBED_DIM)
        self.positions = nn.Embedding(max_length, EMBED_DIM)
        self.norm_in = nn.LayerNorm(EMBED_DIM, EPSILON)
        self.projections = nn.Linear(EMBED_DIM, 3 * EMBED_DIM)  # query, key and value in one product
        self.attention_out = nn.Linear(EMBED_DIM, EMBED_DIM)
        self.norm_attention = nn.LayerNorm(EMBED_DIM, EPSILON)
        self.feedforward_in = nn.Linear(EMBED_DIM, FEEDFORWARD_DIM)
        self.feedforward_out = nn.Linear(FEEDFORWARD_DIM, EMBED_DIM)
        self.norm_feedforward = nn.LayerNorm(EMBED_DIM, EPSILON)
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
        queries, keys, values = self.projections(x).unsqueeze(1).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible, is_causal=visible is None)
        x = self.norm_attention(x + self.attention_out(mixed.squeeze(1)))
        return self.norm_feedforward(x + self.feedforward_out(F.gelu(self.feedforward_in(x), approximate="tanh")))

    def represent(self, history: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors [B, D] after histories [B, L], 0-padded at the back, of `lengths` [B]."""
        hidden = self(self.items(history), back_positions(lengths, history.shape[1], len(self.positions.weight)))
        return hidden[torch.arange(len(history), device=history.device), lengths - 1]


def back_positions(lengths: torch.Tensor, columns: int, max_length: int) -> torch.Tensor:
    """[B, columns] indices of positions in sequences padded at the back; padding gets the last index, which nobody sees."""
    index = max_length - lengths[:, None] + torch.arange(columns, device=lengths.device)
    return index.clamp(max=max_length - 1)
