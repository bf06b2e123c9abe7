"""Products that ranks, losses, ties or audits depend on are of float32 precision on every platform."""

import jax
import jax.numpy as jnp
import pytest
from programs import SCORING
from toys import lively_params, tiny_model

from prec_backdoor.evaluation import rank_kernel, ranking
from prec_backdoor.models import represent, scores
from prec_backdoor.parallel import platforms

HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
ENCODER = ("SASRec", "PromptGenerator")  # Flax modules; their products may have the platform's precision


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


@pytest.mark.parametrize("name", SCORING)
def test_every_product_of_scores_is_exact(name):
    function, args = SCORING[name]()
    found = products_of(function, *args)
    assert of_scores(found) and set(of_scores(found)) == {HIGHEST}
    if name not in ("ranking", "ranking of several tiles"):
        assert len(of_scores(found)) < len(found)  # the encoder's products were told apart


def test_scores_that_are_compared_on_the_chip_are_exact(monkeypatch):
    monkeypatch.setattr(ranking, "choices", lambda: platforms.ACCELERATOR)
    function, args = SCORING["ranking"]()
    found = of_scores(products_of(lambda *args: function(*args), *args))
    assert len(found) == 4 and found.count(HIGHEST) == 3  # of the wanted items, and in the kernel on a CPU and on a TPU
    assert set(found) == {HIGHEST, rank_kernel.TF32_PARTS}  # on a GPU: float32 products by tensor cores


def test_a_product_of_the_platforms_precision_is_found():
    hidden, items = jnp.ones((3, 8)), jnp.ones((16, 8))
    with jax.default_matmul_precision(None):
        assert of_scores(products_of(lambda h, v: jax.jit(jnp.dot)(h, v.T), hidden, items)) != [HIGHEST]
    assert of_scores(products_of(lambda h, v: scores("bd,vd->bv", h, v), hidden, items)) == [HIGHEST]


@pytest.mark.parametrize(("flag", "exact"), [("default", False), ("highest", True)])
def test_products_of_the_encoder_have_the_precision_of_the_flag(flag, exact):
    model = tiny_model(num_items=15, max_length=6, matmul_precision=flag, prompt_length=1, profile_sizes=(3,))
    history, profile = jnp.ones((3, 6), jnp.int32), jnp.ones((3, 1), jnp.int32)
    with jax.default_matmul_precision(None):
        found = products_of(lambda params: represent(params, model, history, profile), lively_params(model))
    chosen = {precision == HIGHEST for scope, precision in found if "norm" not in scope}  # layer norms are exact anyway
    assert len(found) > 4 and chosen == {exact}
