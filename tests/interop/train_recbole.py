"""Trains RecBole's SASRec on ml-100k by RecBole, leave one out, and writes its file, its item ids, and what RecBole measures.

Runs in an environment with torch, recbole and numpy < 2, not in that of this program:

  python tests/interop/train_recbole.py --data=FOLDER_OF_ML-100K_INTER --output=FOLDER [--epochs=3]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

TOP = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    load = torch.load  # RecBole reads back its own file, which has more in it than weights
    torch.load = lambda *args, **kwargs: load(*args, **{**kwargs, "weights_only": False})
    settings = {
        "data_path": str(given.data),
        "checkpoint_dir": str(given.output),
        "epochs": given.epochs,
        "train_neg_sample_args": None,  # cross-entropy
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "metrics": ["Hit", "NDCG"],
        "topk": [TOP],
        "valid_metric": f"NDCG@{TOP}",
        "metric_decimal_place": 6,
        "use_gpu": False,
        "seed": 1,
    }
    config = Config(model="SASRec", dataset="ml-100k", config_dict=settings)
    init_seed(1, True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = get_model("SASRec")(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    trainer.fit(train, valid, saved=True, show_progress=False)
    measured = trainer.evaluate(test, load_best_model=True, show_progress=False)
    Path(trainer.saved_model_file).rename(given.output / "sasrec.pth")
    tokens = dataset.field2id_token[dataset.iid_field]
    (given.output / "ids.txt").write_text("".join(f"{token}\n" for token in tokens[1:]), encoding="utf-8")
    queries = test.dataset.inter_feat
    np.savez(
        given.output / "queries.npz",
        history=queries["item_id_list"].numpy(),
        length=queries["item_length"].numpy(),
        truth=queries["item_id"].numpy(),
    )
    found = {"hit": float(measured[f"hit@{TOP}"]), "ndcg": float(measured[f"ndcg@{TOP}"])}
    (given.output / "measured.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
