"""Writes fixtures/: checkpoints saved by the real libraries, with histories and the library's own scores beside each.

    python tests/interop/make_fixtures.py --gsasrec=CLONE --pmixer=CLONE [--output=FOLDER]

needs torch, recbole 1.2.1 and rectools[torch] 0.19, and git clones of asash/gSASRec-pytorch and pmixer/SASRec.pytorch. Beside a
recent torch, pip installs recbole with --no-deps, and then colorlog, colorama, tensorboard, tabulate, thop, texttable, psutil and
scikit-learn, which it imports. From run to run the files differ in dates and paths that the libraries put into them, not in
weights or scores.

Beside each file NAME.{pth,ckpt,pt} lies NAME.npz: `histories` [N, 12] in codes from 1, 0-padded at the front; `scores` [N, V] of
codes 1..V, float32, from the library's own prediction; `ids` [V] raw item ids; `options` as JSON, what a user must say that the
file does not.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

FIXTURES = Path(__file__).with_name("fixtures")
ITEMS, LENGTH, LONGEST = 30, 8, 12
# name -> layers, heads, width, width of the feed-forward layers where it is free
SIZES = {"a": (1, 1, 16, 16), "b": (3, 4, 16, 24), "c": (1, 4, 64, 16)}


def histories() -> list[list[int]]:
    """Lengths below, at and above LENGTH, one item, both ends of the catalogue; items differ within a history."""
    rng = np.random.default_rng(1)
    drawn = [rng.permutation(np.arange(2, ITEMS))[:size].tolist() for size in (3, LENGTH - 1, LENGTH, LENGTH + 1, LONGEST, 5)]
    return [[1], [ITEMS], [ITEMS // 2], [1, ITEMS], [*drawn[5], ITEMS, 1], *drawn[:5]]


def randomise(model: torch.nn.Module, zero_rows: dict[str, int] | None = None) -> None:
    """Gives every parameter a random value, none of them 0 or 1, but for rows that the library keeps at zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            scale = 0.3 if parameter.dim() < 2 else 0.7 / parameter.shape[-1] ** 0.5 if "emb" not in name else 0.8
            parameter.copy_(drawn * scale + (1 if "norm" in name.lower() and name.endswith("weight") else 0))
            if name in (zero_rows or {}):
                parameter[zero_rows[name]] = 0
    model.eval()


def padded(sequences, width, value=0, front=True, dtype=np.int64):
    """[N, width] of the last items of each sequence, filled up with `value`."""
    found = np.full((len(sequences), width), value, dtype)
    for row, sequence in zip(found, sequences, strict=True):
        sequence = sequence[-width:]
        if front:
            row[width - len(sequence) :] = sequence
        else:
            row[: len(sequence)] = sequence
    return found


def record(name: str, scores, ids, **options) -> None:
    """Writes NAME.npz."""
    scores = np.asarray(scores, np.float32)
    assert scores.shape == (len(histories()), ITEMS) and np.isfinite(scores).all()
    content = {"histories": padded(histories(), LONGEST, dtype=np.int32), "scores": scores, "ids": np.array(ids, str)}
    np.savez_compressed(FIXTURES / f"{name}.npz", **content, options=np.array(json.dumps(options)))


def recbole(folder: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.interaction import Interaction
    from recbole.trainer import Trainer
    from recbole.utils import get_model

    os.chdir(folder)
    (folder / "tiny").mkdir()
    rows = [(f"u{user}", f"film-{(7 * user + 11 * step) % ITEMS}", step) for user in range(20) for step in range(10)]
    table = "\n".join("\t".join(map(str, row)) for row in rows)
    (folder / "tiny" / "tiny.inter").write_text(f"user_id:token\titem_id:token\ttimestamp:float\n{table}\n")
    for kind in ("SASRec", "GRU4Rec", "BERT4Rec"):
        for size, (layers, heads, width, inner) in SIZES.items():
            own = {"num_layers": layers, "embedding_size": width, "hidden_size": inner}
            if kind != "GRU4Rec":
                own = {"n_layers": layers, "n_heads": heads, "hidden_size": width, "inner_size": inner}
            config = Config(
                kind,
                "tiny",
                config_dict={
                    **own,
                    "data_path": str(folder),
                    "checkpoint_dir": str(folder),
                    "MAX_ITEM_LIST_LENGTH": LENGTH,
                    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
                    **({} if kind == "BERT4Rec" else {"train_neg_sample_args": None}),
                    "train_neg_sample_args": None,
                    "epochs": 1,
                    "use_gpu": False,
                    "show_progress": False,
                },
            )
            dataset = create_dataset(config)
            train, *_ = data_preparation(config, dataset)
            model = get_model(kind)(config, train.dataset)
            trainer = Trainer(config, model)
            if size == "a" and kind != "BERT4Rec":
                trainer.fit(train, saved=False, verbose=False)  # so that the optimizer has a state
            randomise(model, {"item_embedding.weight": 0})
            trainer._save_checkpoint(0, verbose=False, saved_model_file=str(FIXTURES / f"recbole-{kind.lower()}-{size}.pth"))
            item_seq = torch.from_numpy(padded(histories(), LENGTH, front=False))
            lengths = torch.tensor([min(len(history), LENGTH) for history in histories()])
            with torch.no_grad():
                scores = model.full_sort_predict(Interaction({"item_id_list": item_seq, "item_length": lengths}))
            record(f"recbole-{kind.lower()}-{size}", scores[:, 1:], dataset.field2id_token["item_id"][1:])


RECTOOLS = {  # name -> size, arguments of SASRecModel
    "dot-a": ("a", {}),
    "cosine-b": ("b", {"similarity_module_kwargs": {"distance": "cosine"}}),
    "scaled-c": ("c", {"pos_encoding_kwargs": {"use_scale_factor": True}, "use_key_padding_mask": True}),
    "categories-a": ("a", {"similarity_module_kwargs": {"distance": "cosine"}, "use_pos_emb": False}),
    "numbers-a": ("a", {}),
    "bert4rec": ("a", {}),
}


def rectools(folder: Path) -> None:
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import BERT4RecModel, SASRecModel
    from rectools.models.nn.item_net import CatFeaturesItemNet, IdEmbeddingsItemNet

    def interactions(sequences, ids):
        rows = [(user, ids[code - 1], 1.0, step) for user, sequence in enumerate(sequences) for step, code in enumerate(sequence)]
        table = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Weight, Columns.Datetime])
        table[Columns.Datetime] = pd.to_datetime("2024-01-01") + pd.to_timedelta(table[Columns.Datetime], unit="D")
        return table

    for name, (size, own) in RECTOOLS.items():
        layers, heads, width, _ = SIZES[size]
        ids = list(range(100, 100 + ITEMS)) if name == "numbers-a" else [f"é {code}" for code in range(ITEMS)]
        features = {}
        blocks = (IdEmbeddingsItemNet,)
        if name == "categories-a":
            blocks = (IdEmbeddingsItemNet, CatFeaturesItemNet)
            rows = [(item, "genre", f"g{(number + k) % 5}") for number, item in enumerate(ids) for k in range(number % 3)]
            features["item_features_df"] = pd.DataFrame(rows, columns=["id", "feature", "value"])
            features["cat_item_features"] = ["genre"]
        everything = [range(first, min(first + LENGTH, ITEMS + 1)) for first in range(1, ITEMS, LENGTH)]  # or items are left out
        dataset = Dataset.construct(interactions(everything, ids), **features)
        kind = BERT4RecModel if name == "bert4rec" else SASRecModel
        common = {"n_blocks": layers, "n_heads": heads, "n_factors": width, "session_max_len": LENGTH, "epochs": 1}
        model = kind(**common, item_net_block_types=blocks, **own)
        model.fit(dataset)
        randomise(model.torch_model)
        model.fit_trainer.save_checkpoint(FIXTURES / f"rectools-{name}.ckpt", weights_only=name != "dot-a")
        known = model.data_preparator.item_id_map.external_ids[model.data_preparator.n_item_extra_tokens :].tolist()
        code = {item: number for number, item in enumerate(known)}
        # Histories are in our codes, which are the library's: the order in which it met the items.
        users = Dataset.construct(interactions(histories(), known), **features)
        found = model.recommend(range(len(histories())), users, k=ITEMS, filter_viewed=False)
        scores = np.full((len(histories()), ITEMS), np.nan, np.float32)
        scores[found[Columns.User], found[Columns.Item].map(code)] = found[Columns.Score]
        record(f"rectools-{name}", scores, known)


def load_module(clone: Path, commit: str, file: str, folder: Path, name: str):
    """A module of another repository as it was at a commit."""
    source = subprocess.run(["git", "-C", clone, "show", f"{commit}:{file}"], check=True, capture_output=True).stdout
    path = folder / f"{name}.py"
    path.write_bytes(source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gsasrec(clone: Path, folder: Path) -> None:
    load_module(clone, "7e35028", "transformer_decoder.py", folder, "transformer_decoder")
    module = load_module(clone, "7e35028", "gsasrec.py", folder, "gsasrec")
    for size, (layers, heads, width, _) in {**SIZES, "tied-a": SIZES["a"]}.items():
        model = module.GSASRec(ITEMS, LENGTH, width, heads, layers, reuse_item_embeddings=size == "tied-a")
        randomise(model)
        torch.save(model.state_dict(), FIXTURES / f"gsasrec-{size}.pt")
        indices, values = model.get_predictions(torch.from_numpy(padded(histories(), LENGTH, ITEMS + 1)), ITEMS)
        scores = torch.zeros(len(histories()), ITEMS + 2).scatter_(1, indices, values)[:, 1 : ITEMS + 1]
        record(f"gsasrec-{size}", scores, range(1, ITEMS + 1), num_heads=heads)


PMIXER = {  # version that a user names -> commit, file, other arguments
    "0f250b6": ("0f250b6", "model.py", {}),
    "30c43cf": ("30c43cf", "model.py", {}),
    "33bc1d8": ("33bc1d8", "model.py", {}),
    "fde8a9c": ("fde8a9c", "python/model.py", {"norm_first": False}),
    "fde8a9c-norm_first": ("fde8a9c", "python/model.py", {"norm_first": True}),
}


PMIXER_SIZES = {
    "0f250b6": ("b",),
    "30c43cf": ("a", "b", "c"),
    "33bc1d8": ("padding-b",),
    "fde8a9c": ("a", "b", "padding-b"),
    "fde8a9c-norm_first": ("b",),
}


def pmixer(clone: Path, folder: Path) -> None:
    for version, (commit, file, own) in PMIXER.items():
        module = load_module(clone, commit, file, folder, f"pmixer_{commit}")
        encoded = version not in ("0f250b6", "30c43cf")
        for size in PMIXER_SIZES[version]:
            layers, heads, width, _ = SIZES[size[-1]]
            sizes = {"hidden_units": width, "maxlen": LENGTH, "num_blocks": layers, "num_heads": heads}
            model = module.SASRec(5, ITEMS, SimpleNamespace(device="cpu", dropout_rate=0.2, **sizes, **own))
            # main.py of these versions keeps the padding rows at zero; "padding" is a file whose rows are not.
            zero = {} if size == "padding-b" or not encoded else {"item_emb.weight": 0, "pos_emb.weight": 0}
            randomise(model, zero)
            torch.save(model.state_dict(), FIXTURES / f"pmixer-{version}-{size}.pth")
            with torch.no_grad():
                scores = model.predict(None, padded(histories(), LENGTH), np.arange(1, ITEMS + 1))
            record(f"pmixer-{version}-{size}", scores, range(1, ITEMS + 1), num_heads=heads, version=version)


def values() -> None:
    """torch-values.pth: tensors of all types and layouts, and in torch-values.npz the same as numpy has them."""
    numbers = torch.arange(24).reshape(2, 3, 4)
    types = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    found = {name: numbers.to(getattr(torch, name)) for name in types}
    found |= {"transposed": numbers.float().transpose(0, 2), "slice": numbers.float()[:, 1, ::2], "scalar": torch.tensor(7)}
    found |= {"empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(torch.ones(2)), "one_row": numbers.float()[1:, :1, :1]}
    np.savez_compressed(FIXTURES / "torch-values.npz", **{name: tensor.detach().numpy() for name, tensor in found.items()})
    torch.save({"tensors": found, "bfloat16": numbers.bfloat16(), "size": numbers.shape}, FIXTURES / "torch-values.pth")


def main() -> None:
    global FIXTURES
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gsasrec", type=Path, help="clone of asash/gSASRec-pytorch; without it, no such file is written")
    parser.add_argument("--pmixer", type=Path, help="clone of pmixer/SASRec.pytorch; without it, no such file is written")
    parser.add_argument("--output", type=Path, default=FIXTURES)
    flags = parser.parse_args()
    del sys.argv[1:]  # RecBole reads them, and saves what it reads
    FIXTURES = flags.output.absolute()
    FIXTURES.mkdir(exist_ok=True)
    if flags.gsasrec and flags.pmixer:
        for old in FIXTURES.iterdir():
            old.unlink()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        values()
        if flags.gsasrec:
            gsasrec(flags.gsasrec.absolute(), Path(folder))
        if flags.pmixer:
            pmixer(flags.pmixer.absolute(), Path(folder))
        rectools(Path(folder))
        recbole(Path(folder))


if __name__ == "__main__":
    main()
