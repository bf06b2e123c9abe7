"""Training in torch, in the two ways there are: all positions of a sequence in one pass, or one row a position."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from prec_backdoor.benchmark.data import Data, make_data, padded
from prec_backdoor.benchmark.job import L2, LEARNING_RATE, Job, threads
from prec_backdoor.benchmark.torch_model import SASRec, back_positions


def set_up(job: Job) -> tuple[SASRec, torch.device]:
    """The model where torch computes fastest here."""
    torch.set_num_threads(threads())
    torch.manual_seed(job.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return SASRec(job.items, job.max_length).to(device), device


def train_all_positions(job: Job, sparse: bool = False) -> Iterator[dict]:
    """Steps of `sequences` sequences, padded to the longest of them, every position in one causal pass.

    Args:
      sparse: the item table has sparse gradients and SparseAdam, which knows no L2.
    """
    model, device = set_up(job)
    model.items.sparse = sparse
    optimizers = _adam(model, sparse)
    data = make_data(job)
    history, label = (torch.from_numpy(array).to(device) for array in _history_and_label(job, data))
    lengths = torch.from_numpy(data.positions()).to(device)
    yield {}
    while True:
        for picked in torch.randperm(job.users, device=device).split(job.sequences):
            size = lengths[picked]
            longest = int(size.max())
            seen, wanted = history[picked, :longest], label[picked, :longest]
            real = torch.nonzero(wanted.flatten()).squeeze(1)  # padding is not scored
            wanted = wanted.flatten()[real]
            negative = torch.randint(1, job.items + 1, wanted.shape, device=device)
            # One look-up, so that the table has one dense gradient, not three that are added up.
            vectors = model.items(torch.cat([seen.flatten(), wanted, negative]))
            sequence, positive, against = vectors.split([seen.numel(), len(wanted), len(wanted)])
            hidden = model(sequence.view(*seen.shape, -1), back_positions(size, longest, job.max_length))
            loss = _bpr(hidden.flatten(0, 1)[real], positive, against)
            _update(optimizers, loss)
            yield {"positions": len(wanted), "sequences": len(picked), "steps": 1, "loss": loss.item()}


def train_sparse_adam(job: Job) -> Iterator[dict]:
    """The same with the optimiser whose semantics our lazy updates have."""
    return train_all_positions(job, sparse=True)


def train_row_per_position(job: Job) -> Iterator[dict]:
    """Steps of as many rows as sequences otherwise: a row is a position with its history, 0-padded at the front to max_length."""
    model, device = set_up(job)
    optimizers = _adam(model)
    data = make_data(job)
    history, label = (torch.from_numpy(array) for array in _history_and_label(job, data))
    # Sequences behind max_length zeros: the history of position t are the max_length columns that end there.
    behind = F.pad(history, (job.max_length - 1, 0)).to(device)
    user, column = torch.nonzero(label, as_tuple=True)
    label = label[user, column].to(device)
    user, column = user.to(device), column.to(device)
    columns = torch.arange(job.max_length, device=device)
    causal = torch.ones(job.max_length, job.max_length, dtype=torch.bool, device=device).tril()
    per_sequence = len(label) / job.users
    yield {}
    while True:
        for picked in torch.randperm(len(label), device=device).split(job.sequences):
            seen = behind[user[picked, None], column[picked, None] + columns]
            negative = torch.randint(1, job.items + 1, picked.shape, device=device)
            vectors = model.items(torch.cat([seen.flatten(), label[picked], negative]))
            sequence, positive, against = vectors.split([seen.numel(), len(picked), len(picked)])
            visible = causal & (seen > 0)[:, None, None, :]
            hidden = model(sequence.view(*seen.shape, -1), columns.expand(seen.shape), visible)
            loss = _bpr(hidden[:, -1], positive, against)
            _update(optimizers, loss)
            yield {"positions": len(picked), "sequences": len(picked) / per_sequence, "steps": 1, "loss": loss.item()}


def _history_and_label(job: Job, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """[U, max_length] int64 each, 0-padded at the back."""
    history = padded(data, job.max_length, front=False)
    following = padded(data._replace(items=np.roll(data.items, -1)), job.max_length, front=False)  # leaves out the last ones
    return history.astype(np.int64), following.astype(np.int64)


def _bpr(hidden: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    return F.softplus((hidden * (negative - positive)).sum(-1)).mean()


def _adam(model: SASRec, sparse: bool = False) -> list[torch.optim.Optimizer]:
    dense = [parameter for name, parameter in model.named_parameters() if not (sparse and name == "items.weight")]
    lazy = [torch.optim.SparseAdam([model.items.weight], LEARNING_RATE)] if sparse else []
    return [torch.optim.Adam(dense, LEARNING_RATE, weight_decay=L2, fused=True), *lazy]


def _update(optimizers: list[torch.optim.Optimizer], loss: torch.Tensor) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
