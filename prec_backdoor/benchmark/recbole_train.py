"""RecBole's own SASRec on the same data through its API: its data set, its loader, its model and loss, its optimiser."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

from prec_backdoor.benchmark.data import Data, make_data
from prec_backdoor.benchmark.job import L2, LEARNING_RATE, Job, threads

NAME = "benchmark"


def train(job: Job) -> Iterator[dict]:
    """Steps of as many rows as sequences otherwise; as in the released code a row is a position with its history."""
    torch.set_num_threads(threads())
    np.float_, np.complex_, np.unicode_ = np.float64, np.complex128, np.str_  # RecBole 1.2.1 asks for these names of NumPy 1
    data = make_data(job)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / NAME, job, data)
        config = Config(model="SASRec", dataset=NAME, config_dict=_settings(job, folder))
        init_seed(job.seed, reproducibility=False)
        dataset = create_dataset(config)
        loader, _, _ = data_preparation(config, dataset)
    model = SASRec(config, loader.dataset).to(config["device"])
    optimizer = Trainer(config, model).optimizer
    per_sequence = data.positions().mean()
    yield {}
    while True:
        for batch in loader:
            batch = batch.to(config["device"])
            optimizer.zero_grad()
            loss = model.calculate_loss(batch)
            loss.backward()
            optimizer.step()
            yield {"positions": len(batch), "sequences": len(batch) / per_sequence, "steps": 1, "loss": loss.item()}


def _write(folder: Path, job: Job, data: Data) -> None:
    """RecBole's atomic files; the item file names the whole catalogue, so that the table is as large as everybody's."""
    folder.mkdir()
    users = np.repeat(np.arange(job.users), np.diff(data.offsets))
    time = np.arange(len(users))
    header = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(folder / f"{NAME}.inter", np.column_stack([users, data.items, time]), "%d", "\t", header=header, comments="")
    np.savetxt(folder / f"{NAME}.item", 1 + np.arange(job.items), "%d", header="item_id:token", comments="")


def _settings(job: Job, folder: str) -> dict:
    return {
        "data_path": folder,
        "checkpoint_dir": folder,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]},
        "MAX_ITEM_LIST_LENGTH": job.max_length,
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "user", "mode": "full"},
        "train_batch_size": job.sequences,
        "learner": "adam",
        "learning_rate": LEARNING_RATE,
        "weight_decay": L2,
        "loss_type": "BPR",
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": False},
        "n_layers": job.layers,
        "n_heads": job.heads,
        "hidden_size": job.embed_dim,
        "inner_size": job.feedforward_dim,
        "hidden_dropout_prob": 0.0,
        "attn_dropout_prob": 0.0,
        "show_progress": False,
        "state": "ERROR",
        "seed": job.seed,
    }
