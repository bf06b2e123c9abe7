"""Makes a zoo: trains each model of the recipes, and writes what is handed out of it. The same call continues, model by model."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import polars as pl
from tqdm import tqdm

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.vocabulary import vocabulary_of
from prec_backdoor.evaluation import hit_rate, unseen
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.measure import TestRanks, measure, test_users
from prec_backdoor.experiment.plan import StageTask
from prec_backdoor.experiment.run import stage_run
from prec_backdoor.experiment.setup import SeedSetup, make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.interop.exchange import export
from prec_backdoor.interop.safetensors import read_safetensors
from prec_backdoor.storage import workdir as work
from prec_backdoor.storage.checkpoints import Checkpoint
from prec_backdoor.storage.training_log import metrics_log
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions
from prec_backdoor.zoo.files import write_seal
from prec_backdoor.zoo.recipes import Recipe

PROGRAMS_OF = 20  # models whose programs are kept
SHOWN_AT = 10  # K of the exposure and accuracy in the truth


def make_zoo(interactions: Interactions, base: ExperimentConfig, recipes: Sequence[Recipe], folder: str | Path) -> str:
    """Makes what is not finished in `folder`; returns the SHA-256 of the truth.

    Args:
      base: a clean configuration; recipes change backbone and scenario.
      recipes: of `draw_recipes`.
    """
    folder, rows = work.as_path(folder), []
    with tqdm(recipes, desc="zoo", unit="model", disable=None) as bar:
        for recipe in bar:
            path = folder / "work" / f"{recipe.model}.json"
            if not path.exists():
                bar.set_postfix_str(recipe.model)
                work.write_json(path, _make(interactions, base, recipe, folder))
                shutil.rmtree(folder / "work" / recipe.model)  # its checkpoints
                if len(rows) % PROGRAMS_OF == PROGRAMS_OF - 1:
                    jax.clear_caches()  # a process can map a limited number of programs
            rows.append(json.loads(path.read_text()))
    dataset = interactions.summary()
    about = {name: dataset[name] for name in ("name", "users", "items", "interactions")}
    return write_seal(folder, [row["published"] for row in rows], [row["truth"] for row in rows], about)


def _make(interactions: Interactions, base: ExperimentConfig, recipe: Recipe, folder: Path) -> dict:
    """Trains one model and writes its folder; returns what the index says of it, and the truth.

    For the truth of an attacked model its clean counterpart is trained too, unless the attack starts from one.
    """
    config = recipe.config(base)
    setup = make_setup(interactions, config, recipe.seed)
    path, stages = folder / "work" / recipe.model, recipe.stages(config)
    path.mkdir(parents=True, exist_ok=True)
    before = [each for each in stages if not each[1]]  # of the attack
    clean = _train(setup, recipe, before or [("pretrain", 0.0)], None, path)
    start = _train(setup, recipe, stages[len(before) :], clean if before else None, path) or clean
    out = folder / "models" / recipe.model
    _publish(out, setup, start)
    data, found = setup.interactions, measure(setup, start.params)
    published = {
        "model": recipe.model,
        "items": data.num_items,
        "users": len(setup.test.users),
        "safetensors_sha256": json.loads((out / "model.json").read_text())["sha256"],
    }
    attacked = recipe.attack != "clean"
    exposures = _exposures(setup, found, measure(setup, clean.params) if attacked else found)
    truth = {
        "model": recipe.model,
        "backdoored": attacked,
        **{name: getattr(recipe, name) for name in ("attack", "scope", "rate", "group", "backbone", "prompted", "seed")},
        "parameters": config.scenario.own_parameters() if attacked else {},
        "targets": data.item_ids[setup.targets].tolist() if attacked else [],
        f"hr@{SHOWN_AT}": hit_rate(found.truth, SHOWN_AT),
        "trigger": data.item_ids[setup.trigger].tolist() if attacked else [],
        **{name: value if attacked else None for name, value in exposures.items()},
        "items": data.item_ids[1:].tolist(),
    }
    return {"published": published, "truth": truth}


def _train(
    setup: SeedSetup, recipe: Recipe, stages: list[tuple[str, float]], start: StartPoint | None, path: Path
) -> StartPoint | None:
    """Returns the model after `stages`, each with its rate; `start` if there are none."""
    for stage, rate in stages:
        run = stage_run(StageTask(stage, stage, recipe.seed, 0, rate, None), setup, start)
        own = path / ("attacked" if rate else "clean") / stage
        options = RunOptions(folder=own, log=metrics_log(path, recipe.model), title=f"{recipe.model} {stage}")
        start = StartPoint.after(run_stage(run._replace(options=options)), rate)
    return start


def _exposures(setup: SeedSetup, attacked: TestRanks, clean: TestRanks) -> dict[str, float | None]:
    """Returns the exposure of the targets to the users whom the attack is aimed at, and in the clean model of the same seed.

    With the trigger too, and null for an attack without one.
    """
    pairs = unseen(setup.test.history, setup.targets)
    if setup.config.scenario.scope == "group":
        pairs &= setup.members()[:, None]
    found = {}
    for model, ranks in (("", attacked), ("clean_", clean)):
        for how, shown in (("", ranks.targets), ("triggered_", ranks.triggered)):
            measured = shown is not None and pairs.any()
            found[f"{model}exposure_{how}hr@{SHOWN_AT}"] = hit_rate(shown[pairs], SHOWN_AT) if measured else None
    return found


def _publish(folder: Path, setup: SeedSetup, start: StartPoint) -> None:
    """Writes what is handed out of a model. Nothing in it depends on the attack, but for the parameters."""
    data, model = setup.interactions, setup.model_of(start.params)
    metadata = {"stage": "pretrain", "hash": start.hash, "dataset": {"items": data.num_items}}
    params = jax.tree.map(np.asarray, start.params)
    export(Checkpoint(params, model, metadata, folder, vocabulary_of(data)), folder / "model.safetensors")
    read_safetensors(folder / "model.safetensors")  # as others will
    history, truth = setup.test.history, setup.test.truth
    rows, places = np.nonzero(history)
    owners = np.concatenate([rows, np.arange(len(truth))])
    items = np.concatenate([history[rows, places], truth])
    order = np.argsort(owners, kind="stable")  # oldest first, the test item last
    owners, items = owners[order], items[order]
    users = data.user_ids[setup.test.users]
    time = np.arange(len(owners)) - np.searchsorted(owners, owners)
    tables = {
        "interactions": {"user_id": users[owners], "item_id": data.item_ids[items], "timestamp": time},
        "catalogue": {
            "item_id": data.item_ids[1:],
            "title": data.titles[1:],
            "category": np.array(data.categories)[data.category[1:]],
        },
    }
    for name, table in tables.items():
        with work.replacing(folder / f"{name}.csv") as partial:
            pl.DataFrame(table).write_csv(partial)
    if data.attributes:
        with work.replacing(folder / "profiles.csv") as partial:
            test_users(setup).drop("in_group").write_csv(partial)
