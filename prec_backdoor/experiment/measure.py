"""What is measured of a model on the downstream users: ranks of the real next item and of the targets, and rows of results."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from prec_backdoor.data.splits import sample_queries
from prec_backdoor.evaluation import accuracy, cutoffs, exposure, hit_rate, lift, ranks, unseen
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.storage import workdir as work

WATCHED_USERS = 2_000


class TestRanks(NamedTuple):
    """Ranks on the test queries: of the real next items [U], and of the targets [U, K]."""

    __test__ = False  # no test case, whatever its name looks like to pytest

    truth: np.ndarray
    targets: np.ndarray


def measure(setup: SeedSetup, params: dict) -> TestRanks:
    """Ranks the real next item and all targets for every downstream user."""
    test = setup.test
    targets = np.broadcast_to(setup.targets, (len(test.users), len(setup.targets)))
    wanted = np.concatenate([test.truth[:, None], targets], axis=1)
    profiles = setup.interactions.profile[test.users]
    found = ranks(params, setup.model_of(params), test.history, wanted, profiles, setup.shard_items)
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
            **accuracy(measured.truth[chosen], history[chosen], num_items),
            **exposure(measured.targets[chosen], history[chosen], targets, num_items),
        }
        if clean_measured is not None:
            row |= lift(measured.targets[chosen], clean_measured.targets[chosen], pairs, num_items)
        yield row


def watch_exposure(setup: SeedSetup) -> Callable[[dict], dict]:
    """Returns params -> the targets' exposure by segment, on a sample of the test users: whether a backdoor survives training."""
    setup = setup._replace(test=sample_queries(setup.test, WATCHED_USERS))

    def watch(params: dict) -> dict:
        shown = measure(setup, params).targets
        pairs = unseen(setup.test.history, setup.targets)
        return {
            f"exposure_hr@{k}/{name}": hit_rate(shown[chosen][pairs[chosen]], k)
            for name, chosen in segments(setup).items()
            for k in cutoffs(setup.interactions.num_items)
            if pairs[chosen].any()
        }

    return watch


def segments(setup: SeedSetup) -> dict[str, np.ndarray]:
    """Name -> [U] bool over the test users: all, and, if the scenario names a group, target and rest."""
    everybody = np.ones(len(setup.test.users), bool)
    if setup.in_group is None:
        return {"all": everybody}
    return {"all": everybody, "target": setup.members(), "rest": ~setup.members()}


def save_measured(path: Path, setup: SeedSetup, measured: TestRanks) -> None:
    """Writes the ranks of a cell, for resuming and for the report."""
    pairs = unseen(setup.test.history, setup.targets)
    work.save_ranks(path, measured.truth, np.where(pairs, measured.targets, np.nan))


def test_users(setup: SeedSetup) -> pl.DataFrame:
    """The test users: user_id, in_group, and a column for each profile attribute."""
    interactions, users = setup.interactions, setup.test.users
    profile = np.asarray(interactions.profile)[users]
    columns = {name: np.array(values)[profile[:, index]] for index, (name, values) in enumerate(interactions.attributes.items())}
    return pl.DataFrame({"user_id": interactions.user_ids[users], "in_group": setup.members(), **columns})
