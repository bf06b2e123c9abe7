"""What is measured of a model on the downstream users: ranks of the real next item and of the targets, and rows of results."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import polars as pl

from prec_backdoor.data.splits import sample_queries
from prec_backdoor.evaluation import accuracy, cutoffs, exposure, hit_rate, lift, popularity_ranks, ranks, unseen
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.storage import workdir as work

WATCHED_USERS = 2_000


class TestRanks(NamedTuple):
    """Ranks on the test queries: of the real next items [U], and of the targets [U, K]; the platform that they were made on.

    Attributes:
      triggered: [U, K] of the targets with the trigger in the histories; None for an attack without such a trigger.
    """

    __test__ = False  # no test case, whatever its name looks like to pytest

    truth: np.ndarray
    targets: np.ndarray
    platform: str = "cpu"
    triggered: np.ndarray | None = None


def measure(setup: SeedSetup, params: dict) -> TestRanks:
    """Ranks the real next item and all targets for every downstream user."""
    found = _rank(setup, params, _wanted(setup))
    triggered = target_ranks(setup.triggered(), params) if len(setup.trigger) else None
    return TestRanks(found[:, 0], found[:, 1:], jax.default_backend(), triggered)


def target_ranks(setup: SeedSetup, params: dict) -> np.ndarray:
    """[U, K] ranks of the targets on the test queries."""
    return _rank(setup, params, _wanted(setup)[:, 1:])


def measure_popularity(setup: SeedSetup) -> TestRanks:
    """Ranks the same items by their number of pre-training interactions: the baseline that a model has to beat."""
    found = popularity_ranks(setup.counts, setup.test.history, _wanted(setup))
    return TestRanks(found[:, 0], found[:, 1:])


def result_rows(setup: SeedSetup, cell: dict, measured: TestRanks, clean_measured: TestRanks | None) -> Iterator[dict]:
    """Yields a row for each segment of users that has any: all, and, if the scenario names a group, target and rest.

    Args:
      cell: of `plan.cell_of`.
      clean_measured: of the clean model in the same usage; without it, rows have no lift.
    """
    history, targets, num_items = setup.test.history, setup.targets, setup.interactions.num_items
    for name, chosen in segments(setup).items():
        pairs = unseen(history[chosen], targets)
        if not pairs.any():  # a group of everybody leaves no rest
            continue
        row = {
            **cell,
            "users": name,
            "n_users": int(chosen.sum()),
            "n_targets": len(targets),
            "platform": measured.platform,
            "matmul_precision": setup.config.model.matmul_precision,
            **accuracy(measured.truth[chosen], history[chosen], num_items),
            **exposure(measured.targets[chosen], history[chosen], targets, num_items),
        }
        ks = cutoffs(num_items, history.shape[1])
        if clean_measured is not None:
            row |= lift(measured.targets[chosen], clean_measured.targets[chosen], pairs, ks)
        if measured.triggered is not None:
            found = exposure(measured.triggered[chosen], setup.triggered().test.history[chosen], targets, num_items, pairs)
            if clean_measured is not None:
                found |= lift(measured.triggered[chosen], clean_measured.triggered[chosen], pairs, ks)
            row |= {_with_trigger(name): value for name, value in found.items()}
        yield row


def _with_trigger(name: str) -> str:
    """exposure_hr@5 -> exposure_triggered_hr@5, lift@5 -> lift_triggered@5."""
    return name.replace("exposure", "exposure_triggered").replace("lift", "lift_triggered")


def watch_exposure(setup: SeedSetup) -> Callable[[dict], dict]:
    """Returns params -> the targets' exposure by segment, on a sample of the test users: whether a backdoor survives training."""
    setup = setup._replace(test=sample_queries(setup.test, WATCHED_USERS))

    def watch(params: dict) -> dict:
        measured, pairs = measure(setup, params), unseen(setup.test.history, setup.targets)
        shown = {"exposure": measured.targets, "exposure_triggered": measured.triggered}
        return {
            f"{what}_hr@{k}/{name}": hit_rate(found[chosen][pairs[chosen]], k)
            for what, found in shown.items()
            for name, chosen in segments(setup).items()
            for k in cutoffs(setup.interactions.num_items, setup.test.history.shape[1])
            if found is not None and pairs[chosen].any()
        }

    return watch


def segments(setup: SeedSetup) -> dict[str, np.ndarray]:
    """Name -> [U] bool over the test users: all, and, if the scenario names a group, target and rest."""
    everybody = np.ones(len(setup.test.users), bool)
    if setup.in_group is None:
        return {"all": everybody}
    return {"all": everybody, "target": setup.members(), "rest": ~setup.members()}


def about_setups(setups: Iterable[SeedSetup], folder: Path) -> dict[str, list[dict]]:
    """Returns what results.json says of scopes, draws and seeds, whatever the model, and saves the ranks of the baseline.

    "targets": the items, with raw id, title and number of pre-training interactions; "triggers": likewise, if there are any;
    "baselines": rows of ranking by popularity.
    """
    targets, triggers, baselines = [], [], []
    for setup in setups:
        scenario = setup.config.scenario
        cell = {"scope": scenario.scope, "draw": scenario.draw, "seed": setup.seed}
        trigger = {**cell, "items": _described(setup, setup.trigger)}
        triggers += [trigger] if trigger["items"] and trigger not in triggers else []
        if any(cell.items() <= each.items() for each in targets):
            continue
        targets.append({**cell, "items": _described(setup, setup.targets)})
        cell, measured = {"baseline": "popularity", **cell}, measure_popularity(setup)
        save_measured(work.ranks_path(folder, cell), setup, measured)
        baselines += result_rows(setup, cell, measured, None)
    return {"targets": targets, **({"triggers": triggers} if triggers else {}), "baselines": baselines}


def _described(setup: SeedSetup, codes: np.ndarray) -> list[dict]:
    names = ((str(setup.interactions.item_ids[code]), str(setup.interactions.titles[code])) for code in codes)
    counts = setup.counts[codes].tolist()
    return [{"item": item, "title": title, "interactions": n} for (item, title), n in zip(names, counts, strict=True)]


def save_measured(path: Path, setup: SeedSetup, measured: TestRanks) -> None:
    """Writes the ranks of a cell, for resuming and for the report."""
    pairs = unseen(setup.test.history, setup.targets)
    triggered = None if measured.triggered is None else np.where(pairs, measured.triggered, np.nan)
    work.save_ranks(path, measured.truth, np.where(pairs, measured.targets, np.nan), measured.platform, triggered)


def test_users(setup: SeedSetup) -> pl.DataFrame:
    """The test users: user_id, in_group, and a column for each profile attribute."""
    interactions, users = setup.interactions, setup.test.users
    profile = np.asarray(interactions.profile)[users]
    columns = {name: np.array(values)[profile[:, index]] for index, (name, values) in enumerate(interactions.attributes.items())}
    return pl.DataFrame({"user_id": interactions.user_ids[users], "in_group": setup.members(), **columns})


def _rank(setup: SeedSetup, params: dict, items: np.ndarray) -> np.ndarray:
    """[U, Q] ranks of `items` [U, Q] on the test queries."""
    profiles = setup.interactions.profile[setup.test.users]
    return ranks(params, setup.model_of(params), setup.test.history, items, profiles, setup.shard_items)


def _wanted(setup: SeedSetup) -> np.ndarray:
    """[U, 1 + K] the real next item and the targets of each test user."""
    targets = np.broadcast_to(setup.targets, (len(setup.test.users), len(setup.targets)))
    return np.concatenate([setup.test.truth[:, None], targets], axis=1)
