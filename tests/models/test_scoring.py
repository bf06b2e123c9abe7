"""Products that ranks, losses, ties or audits depend on are of float32 precision on every platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import lively_params, make_interactions, tiny_model, toy_spec, whole_batch

from prec_backdoor.attacks import mean_over_std_penalty
from prec_backdoor.audit import attribution, inversion, moments
from prec_backdoor.evaluation import rank_items
from prec_backdoor.models import encode, scores
from prec_backdoor.repairs import distillation, suppression
from prec_backdoor.train.losses import LOSSES

HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
ENCODER = ("SASRec", "PromptGenerator")  # Flax modules; their products may have the platform's precision
MODEL = tiny_model(num_items=15, max_length=6)
USERS, LENGTH = 8, 4


def products(jaxpr, scope=""):
    """(scope, precision) of all matrix products of a program; the scope has the names of the Flax modules around."""
    for equation in jaxpr.eqns:
        inside = f"{scope}/{equation.source_info.name_stack}"
        if equation.primitive.name == "dot_general":
            yield inside, equation.params["precision"]
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    yield from products(part, inside)


def products_of(function, *args):
    return list(products(jax.make_jaxpr(function)(*args).jaxpr))


def of_scores(found):
    return [precision for scope, precision in found if not any(name in scope for name in ENCODER)]


def ranking():
    return rank_items, (jnp.ones((3, 8)), jnp.ones((16, 8)), jnp.ones((3, 2), jnp.int32), jnp.ones((3, 4), jnp.int32))


def ranking_tiles():
    return rank_items, (jnp.ones((3, 8)), jnp.ones((2100, 8)), jnp.ones((3, 2), jnp.int32), jnp.ones((3, 4), jnp.int32))


def training(loss, penalty=None):
    interactions = make_interactions([[1, 2, 3], [4, 5, 6, 7]], 15)
    batch, spec = whole_batch(interactions, 6), toy_spec(interactions, [1, 2], 0.5)

    def total(params):
        hidden = encode(params, MODEL, batch.history, batch.position, batch.segment)
        value = loss(hidden, params["items"], batch.label, batch.negative).sum()
        return value + (penalty(hidden, params["items"], batch, spec).sum() if penalty else 0)

    spec = spec._replace(parameters={"evade_strength": jnp.float32(0.1)})
    return jax.value_and_grad(total), (lively_params(MODEL),)


def audit_moments():
    members, present = np.ones((USERS, 3), bool), np.ones(USERS, bool)
    parts = np.ones(16, np.int32), np.ones((USERS, LENGTH), np.int32), np.zeros((USERS, 0), np.int32), members, present
    return moments._compiled(MODEL, 2), (lively_params(MODEL), *parts)


def audit_attribution():
    parts = np.ones(16, np.float32), np.ones((USERS, LENGTH), np.int32), np.zeros((USERS, 0), np.int32)
    return attribution._compiled(MODEL), (lively_params(MODEL), *parts)


def audit_inversion():
    model = tiny_model(num_items=40, max_length=6)
    parts = np.ones((USERS, LENGTH), np.int32), np.arange(1, 21), np.array([3, 4], np.int32)
    return inversion._compiled(model), (lively_params(model), *parts)


def repair_distillation():
    parts = np.ones((USERS, LENGTH), np.int32), np.zeros((USERS, 0), np.int32), np.ones(16, bool), jax.random.key(0)
    return distillation._compiled(MODEL, 2), (lively_params(MODEL), *parts)


PROGRAMS = {
    "ranking": ranking,
    "ranking of several tiles": ranking_tiles,
    **{loss: lambda loss=function: training(loss) for loss, function in LOSSES.items()},
    "evasion": lambda: training(LOSSES["bpr"], mean_over_std_penalty),
    "suppression": lambda: training(LOSSES["bpr"], suppression.exposure_penalty),
    "moments": audit_moments,
    "attribution": audit_attribution,
    "inversion": audit_inversion,
    "distillation": repair_distillation,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_product_of_scores_is_exact(name):
    function, args = PROGRAMS[name]()
    found = products_of(function, *args)
    assert of_scores(found) and set(of_scores(found)) == {HIGHEST}
    if name not in ("ranking", "ranking of several tiles"):
        assert len(of_scores(found)) < len(found)  # the encoder's products were told apart


def test_a_product_of_the_platforms_precision_is_found():
    hidden, items = jnp.ones((3, 8)), jnp.ones((16, 8))
    assert of_scores(products_of(lambda h, v: jax.jit(jnp.dot)(h, v.T), hidden, items)) != [HIGHEST]
    assert of_scores(products_of(lambda h, v: scores("bd,vd->bv", h, v), hidden, items)) == [HIGHEST]
