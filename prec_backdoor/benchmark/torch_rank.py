"""Ranking in torch: the whole row of scores, and then its first 50, or as the released code does two sorts of it all."""

from collections.abc import Callable, Iterator

import torch

from prec_backdoor.benchmark.data import make_data, make_queries, padded
from prec_backdoor.benchmark.job import TOP_K, Job
from prec_backdoor.benchmark.torch_model import SASRec
from prec_backdoor.benchmark.torch_train import set_up

USERS = 256
SORTED = 1 << 23  # scores a call of the slow one, so that a turn does not last for ages; it sorts row by row


def top_k(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """[B, TOP_K] the items of the highest scores [B, V + 1]; what is `wanted` is not asked."""
    del wanted
    return scores.topk(min(TOP_K, scores.shape[1]), dim=1).indices


def double_argsort(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """[B, Q] ranks from 1 of the `wanted` [B, Q] among the scores [B, V + 1]."""
    return 1 + (-scores).argsort(dim=1).argsort(dim=1).gather(1, wanted)


def evaluate_top_k(job: Job) -> Iterator[dict]:
    """Calls of USERS users."""
    return _evaluate(job, top_k, USERS)


def evaluate_argsort(job: Job) -> Iterator[dict]:
    """Calls of up to USERS users."""
    return _evaluate(job, double_argsort, max(8, min(USERS, SORTED // job.items)))


def _evaluate(job: Job, find: Callable, users: int) -> Iterator[dict]:
    model, device = set_up(job)
    data = make_data(job)
    wanted = torch.from_numpy(make_queries(job, data).wanted.astype("int64"))
    history = torch.from_numpy(padded(data, job.max_length, front=False).astype("int64"))
    lengths = torch.from_numpy(data.positions())
    yield {}
    while True:
        for picked in torch.arange(job.users).split(users):
            longest = int(lengths[picked].max())
            with torch.inference_mode():
                batch = (history[picked, :longest].to(device), lengths[picked].to(device), wanted[picked].to(device))
                found = find(masked_scores(model, *batch[:2]), batch[2]).cpu()
            yield {"users": len(found), "steps": 1}


def masked_scores(model: SASRec, history: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Scores [B, V + 1] after histories [B, L], 0-padded at the back; what is in them and padding does not compete."""
    scores = model.represent(history, lengths) @ model.items.weight.T
    scores[:, 0] = -torch.inf
    return scores.scatter_(1, history, -torch.inf)
