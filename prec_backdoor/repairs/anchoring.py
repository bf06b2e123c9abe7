"""Anchoring: no suspects; every item vector is trusted as far as the company's own data speak of the item.

A planted item is reached through its vector, called up through that of another item, or by a prompt. Three steps, none of which
trains anything, take away what the company's data do not support; fine-tuning follows.

- A prompt of the provider's is dropped.
- Each vector moves towards what the category and the popularity of its item foretell, and all the way if no history of the
  company has the item: empirical Bayes (Efron & Morris, JASA 1975), with the number of histories as the evidence. Unpopular
  targets, and rare items that call up others, are most of what this changes.
- The mean score of an item over the company's histories falls to what its popularity explains. Of a planted item it is higher,
  whoever is asked (`audit.exposure`). The excess is subtracted along one direction that is nearly the same for all users, as a
  change of the item's bias: logit adjustment (Menon et al., ICLR 2021) towards the company's own frequencies. Who gets an item
  rather than another user stays as it was.

Beyond its reach are triggers and targets that the company has seen often, and a group whose targets stand out in it alone
(docs/audit.md has figures). Among items that no history has, only categories remain to tell them apart.
"""

import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of
from prec_backdoor.audit.robust import unexplained
from prec_backdoor.evaluation import vectors_of_users
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import ModelConfig, item_vectors
from prec_backdoor.parallel.item_table import TABLES
from prec_backdoor.train.stage import RunOptions, StageRun

PRIOR = 0.5  # histories that count as much as what category and popularity foretell
ALLOWED = 0.5  # robust standard deviations by which a mean score may exceed what popularity explains
FITS = 5  # of popularity and category in turn
STEPS = 20  # of lowering a cosine
ROUNDS = 2  # of levelling: with one table, the vectors of items in histories change too, and so do users
HISTORIES = 2_000  # that mean scores are taken over
DAMPING = 1e-2  # of the direction, in mean squares of a coordinate of users


def anchor(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Drops the prompt, shrinks item vectors, levels mean scores; then fine-tunes."""
    del suspects, options
    auditor_data = auditor_data_of(setup)
    params = {name: group for name, group in start.params.items() if name != "prompt"}
    params |= {name: shrunk(params[name], auditor_data) for name in TABLES if name in params}
    histories = auditor_data_of(setup, HISTORIES).history
    for _ in range(ROUNDS):
        params = levelled(params, setup.model, histories, auditor_data.popularity())
    return stages.finetune(setup, start._replace(params=params), "repair")


def shrunk(table: np.ndarray, auditor_data: AuditorData) -> np.ndarray:
    """[V + 1, D] `table` with each row between itself and what the company's knowledge of the item foretells.

    Foretold is a parabola in log popularity plus a constant of the category, which is shrunk towards 0; they are fitted in turn,
    with the same trust in each row, n / (n + PRIOR) of an item that n histories have.
    """
    seen, category = auditor_data.popularity().astype(np.float64), auditor_data.category
    trust = (seen / (seen + PRIOR))[:, None]
    trust[0] = 0
    rows, popularity = np.asarray(table, np.float64), np.log1p(seen)
    design = np.stack([np.ones_like(popularity), popularity, popularity**2], 1)
    gram = (design * trust).T @ design + 1e-3 * np.eye(design.shape[1])
    total = np.bincount(category, trust[:, 0])[:, None]
    of_category = np.zeros((len(total), rows.shape[1]))
    for _ in range(FITS):
        of_popularity = design @ np.linalg.solve(gram, (design * trust).T @ (rows - of_category[category]))
        sums = np.zeros_like(of_category)
        np.add.at(sums, category, trust * (rows - of_popularity))
        of_category = sums / (total + 1)
    found = trust * rows + (1 - trust) * (of_popularity + of_category[category])
    found[0] = rows[0]
    return found.astype(np.float32)


def levelled(params: dict, model: ModelConfig, histories: np.ndarray, popularity: np.ndarray) -> dict:
    """The parameters with the mean scores over `histories` [U, L] lowered to what `popularity` [V + 1] explains, and ALLOWED."""
    users = vectors_of_users(params, model, histories, np.zeros((len(histories), 0), np.int32)).astype(np.float64)
    mean, towards = users.mean(0), common_direction(users)
    excess, scale = unexplained((_vectors(params, model) @ mean)[1:], np.log1p(popularity[1:]))
    limit = _vectors(params, model) @ mean - np.concatenate([[0.0], np.maximum(excess - ALLOWED * scale, 0)])
    name = "output_items" if model.output_items else "items"
    for _ in range(STEPS if model.scoring == "cosine" else 1):  # a changed row has length 1 again there
        above = np.maximum(_vectors(params, model) @ mean - limit, 0)[:, None]
        table = np.asarray(params[name], np.float64)
        length = np.linalg.norm(table, axis=1, keepdims=True) if model.scoring == "cosine" else 1.0
        params = params | {name: _float32(table - length * above * towards[: table.shape[1]])}
        if model.output_bias:
            params["output_bias"] = _float32(params["output_bias"] - above * towards[-1])
    return params


def _vectors(params: dict, model: ModelConfig) -> np.ndarray:
    return np.asarray(item_vectors(params, model), np.float64)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).astype(np.float32)


def common_direction(users: np.ndarray) -> np.ndarray:
    """[E] the direction whose inner products with `users` [U, E] are closest to 1 for all of them, and exactly in the mean."""
    mean, squares = users.mean(0), users.T @ users / len(users)
    damping = DAMPING * np.trace(squares) / len(squares)
    direction = np.linalg.solve(squares + damping * np.eye(len(squares)), mean)
    return direction / (direction @ mean)
