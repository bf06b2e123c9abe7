"""Accuracy of a backbone under the protocol of RecBole's sequential models, and RecBole's own model on the same data.

Leave one out: each user's last item is for the test, the one before it for validation. All items compete, those of the history
too, as RecBole ranks. `--system=recbole` needs the extra `bench`.

python -m tests.models.accuracy --backbone=gru4rec --loss=ce --dropout=0.3
python -m tests.models.accuracy --backbone=gru4rec --system=recbole
"""

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from launch import config_flags
from prec_backdoor.attacks import make_spec
from prec_backdoor.data import load_dataset
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import Queries, Sequences
from prec_backdoor.evaluation import hit_rate, ranks
from prec_backdoor.evaluation.metrics import ndcg
from prec_backdoor.models import ModelConfig, init_params, item_vectors, represent, scores
from prec_backdoor.options import options
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions, Stage, StageData, StageRun

RECBOLE = {"sasrec": "SASRec", "gru4rec": "GRU4Rec", "bert4rec": "BERT4Rec"}  # the models that both have


def leave_one_out(interactions: Interactions, max_length: int) -> tuple[Sequences, Queries, Queries]:
    """Returns all users' sequences without their last two items, and the queries for these: validation, test."""
    users = np.flatnonzero(interactions.lengths() > 2).astype(np.int32)
    items = [interactions.sequence(user) for user in users]

    def queries(from_end: int) -> Queries:
        history = np.zeros((len(items), max_length), np.int32)
        for row, sequence in zip(history, items, strict=True):
            known = sequence[:-from_end][-max_length:]
            row[max_length - len(known) :] = known
        return Queries(users, history, np.array([sequence[-from_end] for sequence in items], np.int32))

    return Sequences(users, [sequence[:-2] for sequence in items]), queries(2), queries(1)


def train(interactions: Interactions, model: ModelConfig, config: TrainConfig, seed: int) -> dict[str, float]:
    """Trains one of our models on all positions; returns the test's metrics, and those without the history's competition."""
    training, validation, test = leave_one_out(interactions, model.max_length)
    data = StageData(pack(training, model.max_length, "all"), user_tables(interactions, training), validation)
    spec, key = make_spec(interactions, np.array([1]), rate=0.0), jax.random.key(seed)
    params = init_params(jax.random.fold_in(key, 1), model)
    result = run_stage(StageRun(Stage("pretrain", config), model, params, data, spec, key, options=RunOptions(log=_log)))

    def among_all(params, history, truth):
        found = scores("bd,vd->bv", represent(params, model, history), item_vectors(params, model))[:, 1:]
        own = found[np.arange(len(truth)), truth - 1][:, None]
        return 1 + (found > own).sum(1) + ((found == own).sum(1) - 1) / 2

    found = np.asarray(jax.jit(among_all)(result.params, test.history, test.truth))
    unseen = ranks(result.params, model, test.history, test.truth[:, None])[:, 0]
    rest = {f"{name} of unseen": value for name, value in metrics(unseen).items()}
    return metrics(found) | rest | {"epoch": result.epoch, "validation_ndcg@10": result.score}


def metrics(found: np.ndarray) -> dict[str, float]:
    """Hit@10 and NDCG@10 of ranks [U]."""
    return {"hit@10": hit_rate(found, 10), "ndcg@10": ndcg(found, 10)}


def _log(record: dict) -> None:
    if (score := record.get("validation_ndcg@10")) is not None:
        print(json.dumps({"epoch": record["epoch"], "loss": record["loss"], "validation_ndcg@10": score}), flush=True)


def train_recbole(interactions: Interactions, name: str, settings: dict) -> dict[str, float]:
    """Trains RecBole's model with its defaults, but for `settings`; returns the metrics of its own evaluation."""
    for alias, kind in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
        setattr(np, alias, kind)  # RecBole 1.2.1 asks for these names of NumPy 1
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    with tempfile.TemporaryDirectory() as folder:
        (where := Path(folder) / "data").mkdir()
        users = np.repeat(np.arange(interactions.num_users), interactions.lengths())
        table = np.column_stack([users, interactions.items, np.arange(len(users))])
        header = "user_id:token\titem_id:token\ttimestamp:float"
        np.savetxt(where / "data.inter", table, "%d", "\t", header=header, comments="")
        config = Config(name, "data", config_dict={"data_path": folder, "checkpoint_dir": folder, **settings})
        init_seed(config["seed"], reproducibility=True)
        training, validation, test = data_preparation(config, create_dataset(config))
        model = get_model(name)(config, training.dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
        trainer.fit(training, validation, show_progress=False)
        best = torch.load(trainer.saved_model_file, weights_only=False)  # written by this process
        model.load_state_dict(best["state_dict"])
        return dict(trainer.evaluate(test, load_best_model=False, show_progress=False))


SETTINGS = {  # of RecBole, beside its defaults
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "metrics": ["Hit", "NDCG"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "show_progress": False,
}


def define_flags() -> None:
    """Flags for the fields of the configurations, and for RecBole's settings as JSON."""
    flags.DEFINE_enum("system", "prec_backdoor", ["prec_backdoor", "recbole"], "Whose model is trained.")
    flags.DEFINE_string("dataset", "ml-100k", "Data set.")
    flags.DEFINE_integer("seed", 0, "Seed.")
    flags.DEFINE_string("settings", "{}", "RecBole's settings as JSON.")
    config_flags.define_fields(*config_flags.MODEL_AND_TRAINING)


def main(_) -> None:
    """Prints the metrics as JSON."""
    interactions, started = load_dataset(flags.FLAGS.dataset), time.perf_counter()
    config = config_flags.config_from_flags(attack="clean", group=None)
    if flags.FLAGS.system == "recbole":
        given = {"seed": flags.FLAGS.seed, **json.loads(flags.FLAGS.settings)}
        found = train_recbole(interactions, RECBOLE[config.model.backbone], SETTINGS | given)
    else:
        model = dataclasses.replace(config.model, num_items=interactions.num_items)
        given = config_flags.changed_fields(options(TrainConfig))
        found = train(interactions, model, config.pretrain, flags.FLAGS.seed)
    seconds = round(time.perf_counter() - started)
    print(json.dumps({"system": flags.FLAGS.system, "backbone": config.model.backbone, **found, "seconds": seconds}))


if __name__ == "__main__":
    define_flags()
    app.run(main)
