"""Which group of users an attack is for."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData, pair_groups, single_groups
from prec_backdoor.audit.moments import LEAST_MEMBERS
from prec_backdoor.audit.tiles import tiles
from prec_backdoor.models import EXACT, ModelConfig, represent

SHORTER = 8  # histories of a user: whole, and without its last 1, 2, .. items
PERMUTATIONS = 999
LEVEL = 0.01  # chance to name a group where profiles have nothing to do with it
CAUTION = 2.0  # standard errors that an effect is lowered by: the effects of small groups are the most exaggerated by chance
MARGIN = 1.0  # by which the t statistic of a pair of values has to exceed that of every single value


class GroupAttribution(NamedTuple):
    """What the suspects' exposure has to do with profiles.

    Attributes:
      group: the group that explains it best, or None where none does.
      p_value: chance of so strong a relation with any group if profiles were dealt out at random.
      candidates: (group, users, effect, standard error) of the strongest, best first; effects in standard deviations.
    """

    group: str | None
    p_value: float
    candidates: list[tuple[str, int, float, float]]


def attribute_group(
    params: dict, model: ModelConfig, auditor_data: AuditorData, suspects: np.ndarray, clean: Sequence[dict] = ()
) -> GroupAttribution:
    """Looks for the group to whose users `suspects` [N] are shown more than to others.

    TestRanks is the log of the probability that the model gives to the suspects: an attacked model's estimate of how much a
    history looks like the group's. What the same is with the auditor's clean models, of parameters `clean`, is taken off by
    least squares: some users' histories lead to rare items in any model. Of the values of single attributes, which overlap,
    the one with the greatest effect less CAUTION standard errors is the best. A pair of values, which is one of many more, is
    better only where its t statistic exceeds that of every single value by MARGIN, as it does for an attack on the pair.
    Chance is accounted for over all values by dealing out profiles anew (Westfall & Young, 1993).
    """
    singles = single_groups(auditor_data, LEAST_MEMBERS)
    groups = singles | pair_groups(auditor_data, LEAST_MEMBERS)
    if not groups or not len(suspects):
        return GroupAttribution(None, 1.0, [])
    names, members = list(groups), np.stack(list(groups.values())).astype(np.float64)
    sizes, users, single = members.sum(1), members.shape[1], np.arange(len(groups)) < len(singles)
    error = np.sqrt(1 / sizes + 1 / (users - sizes))
    shown, *usual = (log_probability(each, model, auditor_data, suspects) for each in (params, *clean))
    design = np.stack([np.ones(users), *usual], 1)
    shown = shown - design @ np.linalg.lstsq(design, shown)[0]
    shown = shown / max(shown.std(), 1e-12)

    def effects(values: np.ndarray) -> np.ndarray:
        """[G] differences of means, in standard deviations within."""
        inside = members @ values / sizes
        outside = (values.sum() - sizes * inside) / (users - sizes)
        within = np.sqrt(np.maximum(1 - (inside**2 * sizes + outside**2 * (users - sizes)) / users, 1e-6))
        return (inside - outside) / within

    effect = effects(shown)
    eligible = single | (effect / error > (effect / error)[single].max() + MARGIN)
    bound = effect - CAUTION * error
    bound = np.where(eligible, bound, bound - 1e3)  # those that are not come after those that are
    rng = np.random.default_rng(0)
    by_chance = np.array([(effects(rng.permutation(shown)) / error)[single].max() for _ in range(PERMUTATIONS)])
    best = np.argsort(-bound, kind="stable")
    p_value = float((1 + (by_chance >= (effect / error)[best[0]]).sum()) / (1 + PERMUTATIONS))
    candidates = [(names[index], int(sizes[index]), float(effect[index]), float(error[index])) for index in best[:10]]
    return GroupAttribution(names[best[0]] if p_value <= LEVEL else None, p_value, candidates)


def log_probability(params: dict, model: ModelConfig, auditor_data: AuditorData, items: np.ndarray) -> np.ndarray:
    """[U] mean log softmax score of `items`, also a mean over a user's history and shorter ones, which steadies it."""
    history, of = auditor_data.history, _compiled(model)
    share = np.bincount(items, minlength=len(auditor_data.category)).astype(np.float32) / len(items)
    total = np.zeros(len(history))
    for cut in range(SHORTER):
        shorter = np.pad(history, ((0, 0), (cut, 0)))[:, : history.shape[1]]
        shorter = np.where((shorter > 0).any(1, keepdims=True), shorter, history)
        for rows, number, parts in tiles(shorter, auditor_data.profile):
            total[rows] += np.asarray(of(params, share, *parts))[:number]
    return total / SHORTER


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig):
    @jax.jit
    def of(params, share, history, profile):
        hidden = represent(params, model, history, profile if model.prompt_length else None)
        scores = jnp.matmul(hidden, params["items"].T, precision=EXACT)
        return jnp.matmul(scores, share, precision=EXACT) - jax.nn.logsumexp(scores[:, 1:], axis=1)

    return of
