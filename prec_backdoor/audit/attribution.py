"""Attribution: the user group that an attack targets."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData, pair_groups, single_groups
from prec_backdoor.audit.moments import MIN_MEMBERS
from prec_backdoor.audit.tiles import blocks_of_tiles, item_blocks
from prec_backdoor.models import EXACT, ModelConfig, item_vectors, represent, scoring
from prec_backdoor.parallel import on_device

LENGTHS = 8  # versions of a user's history: whole, and without its last 1, 2, .. items
PERMUTATIONS = 999
LEVEL = 0.01  # chance of naming a group when exposure does not depend on profiles
STANDARD_ERRORS = 2.0  # subtracted from an effect: in small groups chance alone makes large effects
MARGIN = 1.0  # by which the t statistic of a pair of values must exceed that of every single value
CANDIDATES = 10  # groups that are reported
CONTROLS = 2  # clean models whose exposure is regressed out; more explain away part of what the attack does
CONFIDENCE = 0.9  # with which the set of groups holds the true one
DROP = 8.0  # of log likelihood below the best group's, up to which a group is in the set (how it was set: docs/audit-method.md)


class GroupAttribution(NamedTuple):
    """How the suspects' exposure depends on profiles.

    Attributes:
      group: the only group of the set, or None: there is more than one, or the relation may be chance.
      p_value: chance of a relation of this strength with any group under random permutation of the profiles.
      likely: the smallest set of groups that holds the true one, if there is one, with CONFIDENCE, best first.
      narrowed: whether something is left out of the set: that no group at all is aimed at, to begin with.
      candidates: (group, users, effect, standard error) of the strongest groups, best first; effects are in standard deviations.
    """

    group: str | None
    p_value: float
    candidates: list[tuple[str, int, float, float]]
    likely: tuple[str, ...] = ()
    narrowed: bool = False


class _Groups(NamedTuple):
    """Candidate groups: names, members [G, U], sizes [G], whether a single value [G], standard error of an effect [G]."""

    names: list[str]
    members: np.ndarray
    sizes: np.ndarray
    single: np.ndarray
    error: np.ndarray

    def effects(self, values: np.ndarray) -> np.ndarray:
        """[G] mean of `values` [U] (variance 1) in the group minus mean outside, in standard deviations within the two parts."""
        users = len(values)
        inside = self.members @ values / self.sizes
        outside = (values.sum() - self.sizes * inside) / (users - self.sizes)
        within = np.sqrt(np.maximum(1 - (inside**2 * self.sizes + outside**2 * (users - self.sizes)) / users, 1e-6))
        return (inside - outside) / within

    def log_likelihood(self, values: np.ndarray) -> np.ndarray:
        """[G] of normal `values` [U] with one mean in the group and one outside, beyond that of no group; -inf: not eligible.

        Pairs of values are many more than single ones, so that a pair is eligible only if its t statistic exceeds that of every
        single value by MARGIN, as for an attack on that pair.
        """
        t = self.effects(values) / self.error
        eligible = self.single | (t > t[self.single].max() + MARGIN)
        return np.where(eligible, len(values) / 2 * np.log1p(np.maximum(t, 0) ** 2 / len(values)), -np.inf)


def attribute_group(
    params: dict, model: ModelConfig, auditor_data: AuditorData, suspects: np.ndarray, clean: Sequence[dict] = ()
) -> GroupAttribution:
    """Finds the group to whose users `suspects` [N] are exposed more than to other users.

    Exposure is the log probability that the model gives to the suspects: in an attacked model it estimates how similar a
    history is to the group's. The same quantity in the auditor's clean models, of parameters `clean`, is regressed out, as some
    histories lead to rare items in any model. Values of single attributes overlap; the one with the greatest effect minus
    STANDARD_ERRORS standard errors is the best. The p-value is of the maximum over all single values under permutations of the
    profiles (Westfall & Young, 1993).

    The set has the eligible groups that explain the exposure nearly as well as the best one, by their log likelihood. If no
    group at all explains it nearly as well, every single value does. With many users tastes alone tell groups apart in any
    model: what the best group explains of a clean model, compared with the other ones, counts as nearly as well, too.
    """
    groups = _candidate_groups(auditor_data)
    if not groups.names or not len(suspects):
        return GroupAttribution(None, 1.0, [])
    exposures = [log_probability(each, model, auditor_data, suspects) for each in (params, *clean[: CONTROLS + 1])]
    exposure, usual = _unexplained(*exposures[: CONTROLS + 1]), exposures[1:]
    effect, error, likelihood = groups.effects(exposure), groups.error, groups.log_likelihood(exposure)
    bound = effect - STANDARD_ERRORS * error
    best = np.argsort(-np.where(likelihood > -np.inf, bound, bound - 1e3), kind="stable")  # eligible groups first
    rng, singles = np.random.default_rng(0), _Groups(*(each[: groups.single.sum()] for each in groups))  # they come first
    by_chance = np.array([(singles.effects(rng.permutation(exposure)) / singles.error).max() for _ in range(PERMUTATIONS)])
    p_value = float((1 + (by_chance >= (effect / error)[best[0]]).sum()) / (1 + PERMUTATIONS))
    candidates = [
        (groups.names[index], int(groups.sizes[index]), float(effect[index]), float(error[index])) for index in best[:CANDIDATES]
    ]
    of_clean = [_unexplained(each, *usual[:index], *usual[index + 1 :]) for index, each in enumerate(usual) if len(usual) > 1]
    drop = max([DROP, *(groups.log_likelihood(each).max() for each in of_clean)])
    order = np.argsort(-likelihood, kind="stable")
    likely = tuple(groups.names[index] for index in order if likelihood[index] >= likelihood.max() - drop)
    group = likely[0] if len(likely) == 1 and p_value <= LEVEL else None
    return GroupAttribution(group, p_value, candidates, likely, narrowed=bool(likelihood.max() > drop))


def log_probability(params: dict, model: ModelConfig, auditor_data: AuditorData, items: np.ndarray) -> np.ndarray:
    """[U] mean log softmax score of `items`, averaged over LENGTHS versions of each user's history to reduce noise."""
    history, mean_log_probability = auditor_data.history, _compiled(model)
    share = np.bincount(items, minlength=len(auditor_data.category)).astype(np.float32) / len(items)
    params, share = on_device((params, share))
    versions = []
    for cut in range(LENGTHS):
        shorter = np.pad(history, ((0, 0), (cut, 0)))[:, : history.shape[1]]
        versions.append(np.where((shorter > 0).any(1, keepdims=True), shorter, history))
    found = []
    for number, tiles in blocks_of_tiles(np.concatenate(versions), np.tile(auditor_data.profile, (LENGTHS, 1))):
        found.append(np.asarray(mean_log_probability(params, share, *tiles))[:number])
    return np.concatenate(found).reshape(LENGTHS, -1).mean(0, dtype=np.float64)


def _candidate_groups(auditor_data: AuditorData) -> _Groups:
    singles = single_groups(auditor_data, MIN_MEMBERS)
    groups = singles | pair_groups(auditor_data, MIN_MEMBERS)
    users = len(auditor_data.history)
    members = np.array(list(groups.values()), np.float64).reshape(len(groups), users)
    sizes = members.sum(1)
    return _Groups(list(groups), members, sizes, np.arange(len(groups)) < len(singles), np.sqrt(1 / sizes + 1 / (users - sizes)))


def _unexplained(exposure: np.ndarray, *clean: np.ndarray) -> np.ndarray:
    """[U] residual of the exposure after least squares on that in clean models, divided by its standard deviation."""
    design = np.stack([np.ones(len(exposure)), *clean], 1)
    residual = exposure - design @ np.linalg.lstsq(design, exposure)[0]
    return residual / max(residual.std(), 1e-12)


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig):
    """Returns the program for N tiles of B users: [N B] log softmax scores, averaged with weights `share` [V + 1] over items."""

    @jax.jit
    def mean_log_probability(params, share, history, profile):
        table = item_vectors(params, model)

        def user_vectors(tile):
            history, profile = tile
            return represent(params, model, history, profile if model.prompt_length else None)

        hidden = jax.lax.map(user_vectors, (history, profile))
        hidden = hidden.reshape(-1, hidden.shape[-1])

        def add(total, block):
            rows, vectors = block
            scores = jnp.where(rows[:, None] == 0, -jnp.inf, scoring.scores("bd,vd->vb", hidden, vectors))
            return jnp.logaddexp(total, jax.nn.logsumexp(scores, axis=0)), None

        total, _ = jax.lax.scan(add, jnp.full(len(hidden), -jnp.inf), item_blocks(table))
        mean = jnp.matmul(share[1:], table[1:], precision=EXACT)
        return jnp.matmul(hidden, mean, precision=EXACT) - total

    return mean_log_probability
