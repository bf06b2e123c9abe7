"""Training in torch, in the two ways there are: all positions of a sequence in one pass, or one row a position.

No step waits for the device: sizes are known on the host, and the loss stays on the device until the end of a turn.
"""

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
    if job.task == "train":
        torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as in JAX
    return SASRec(job).to(device), device


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
    lengths = torch.from_numpy(data.positions())
    yield {}
    while True:
        for picked in torch.randperm(job.users).split(job.sequences):
            size = lengths[picked]
            longest = int(size.max())
            real = torch.nonzero((torch.arange(longest) < size[:, None]).flatten()).squeeze(1)  # padding is not scored
            users, sizes, real = _sent(device, picked, size, real)
            seen, wanted = history[users, :longest], label[users, :longest].flatten()[real]
            negative = torch.randint(1, job.items + 1, wanted.shape, device=device)
            with _autocast(job, device):
                # One look-up, so that the table has one dense gradient, not three that are added up.
                vectors = model.items(torch.cat([seen.flatten(), wanted, negative]))
                sequence, positive, against = vectors.split([seen.numel(), len(wanted), len(wanted)])
                hidden = model(sequence.view(*seen.shape, -1), back_positions(sizes, longest, job.max_length))
                loss = _bpr(hidden.flatten(0, 1)[real], positive, against).mean()
            _update(optimizers, loss)
            yield {"positions": len(wanted), "sequences": len(picked), "steps": 1, "loss": loss.detach()}


def train_sparse_adam(job: Job) -> Iterator[dict]:
    """The same with the optimiser whose semantics our lazy updates have."""
    return train_all_positions(job, sparse=True)


def train_compiled(job: Job, mode: str = "default") -> Iterator[dict]:
    """The same by torch.compile: sequences are padded to max_length, as all steps share one program, and none is ragged.

    Args:
      mode: of torch.compile; "reduce-overhead" records forward and backward as CUDA graphs.
    """
    model, device = set_up(job)
    optimizers = _adam(model)
    data = make_data(job)
    history, label = (torch.from_numpy(array).to(device) for array in _history_and_label(job, data))
    lengths, places = torch.from_numpy(data.positions()), torch.from_numpy(data.positions()).to(device)

    def mean_loss(seen, wanted, size):
        negative = torch.randint(1, job.items + 1, wanted.shape, device=wanted.device)
        vectors = model.items(torch.stack([seen, wanted, negative]))
        hidden = model(vectors[0], back_positions(size, job.max_length, job.max_length))
        return (_bpr(hidden, vectors[1], vectors[2]) * (wanted > 0)).sum() / size.sum()

    compiled = torch.compile(mean_loss, mode=mode)
    yield {}
    while True:
        for picked in torch.randperm(job.users)[: job.users // job.sequences * job.sequences].split(job.sequences):
            (users,) = _sent(device, picked)
            torch.compiler.cudagraph_mark_step_begin()
            with _autocast(job, device):
                loss = compiled(history[users], label[users], places[users])
            _update(optimizers, loss)
            positions = int(lengths[picked].sum())
            yield {"positions": positions, "sequences": len(picked), "steps": 1, "loss": loss.detach().clone()}


def train_cuda_graphs(job: Job) -> Iterator[dict]:
    """The same as CUDA graphs; raises a RuntimeError where there is no GPU."""
    if not torch.cuda.is_available():
        raise RuntimeError("CUDA graphs need a GPU")
    return train_compiled(job, "reduce-overhead")


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
            with _autocast(job, device):
                vectors = model.items(torch.cat([seen.flatten(), label[picked], negative]))
                sequence, positive, against = vectors.split([seen.numel(), len(picked), len(picked)])
                visible = causal & (seen > 0)[:, None, None, :]
                hidden = model(sequence.view(*seen.shape, -1), columns.expand(seen.shape), visible)
                loss = _bpr(hidden[:, -1], positive, against).mean()
            _update(optimizers, loss)
            yield {"positions": len(picked), "sequences": len(picked) / per_sequence, "steps": 1, "loss": loss.detach()}


def _sent(device: torch.device, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensors on the device, without waiting for it."""
    if device.type == "cpu":
        return tensors
    return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)


def _autocast(job: Job, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=job.dtype == "bfloat16")


def _history_and_label(job: Job, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """[U, max_length] int64 each, 0-padded at the back."""
    history = padded(data, job.max_length, front=False)
    following = padded(data._replace(items=np.roll(data.items, -1)), job.max_length, front=False)  # leaves out the last ones
    return history.astype(np.int64), following.astype(np.int64)


def _bpr(hidden: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    return F.softplus((hidden.float() * (negative - positive)).sum(-1))


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
