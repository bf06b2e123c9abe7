"""A recommender: an item table, used for input and for scoring, a backbone that encodes histories, and an optional prompt."""

import contextlib
import functools

import jax
import jax.numpy as jnp

from prec_backdoor.errors import UserError
from prec_backdoor.models.config import ModelConfig
from prec_backdoor.models.prompt import PromptGenerator, init_prompt
from prec_backdoor.models.sasrec import SASRec
from prec_backdoor.options import add_entry, defaults

BACKBONES: dict[str, type] = {"sasrec": SASRec}
BLOCK = 1 << 18  # rows of the item table that are initialised at once


def register_backbone(name: str, module: type) -> None:
    """Adds a Flax module class with the signature of `SASRec` (see `prec_backdoor.extend.check_backbone`).

    An optional class attribute `unused` names the fields of `ModelConfig` that it ignores; an optional static method
    `check(config)` raises a UserError for an invalid configuration.

    Raises:
      ValueError: the name is taken.
    """
    add_entry(BACKBONES, "backbone", name, module)


def backbone(config: ModelConfig):
    """Returns the Flax module of `config`.

    Raises:
      UserError: unknown backbone, an invalid configuration, or a value for a field that the backbone ignores.
    """
    if config.backbone not in BACKBONES:
        raise UserError(f"--backbone: must be one of {', '.join(BACKBONES)}, got {config.backbone!r}")
    module, default = BACKBONES[config.backbone], defaults(ModelConfig)
    for name in getattr(module, "unused", ()):
        if getattr(config, name) != default[name]:
            raise UserError(f"--{name}: backbone {config.backbone} has no such size; leave the flag out")
    getattr(module, "check", lambda _: None)(config)
    return module(config)


@functools.partial(jax.jit, static_argnums=1)
def init_params(key: jax.Array, config: ModelConfig) -> dict:
    """Returns initial parameters: "items" [V + 1, D] (row 0 is padding), "encoder", and "prompt" for a model with prompts."""
    items_key, encoder_key = jax.random.split(key)
    vectors = jnp.zeros((1, config.embed_dim))
    index = jnp.zeros((1,), jnp.int32)
    params = {
        "items": _table(items_key, config.num_items + 1, config.embed_dim),
        "encoder": backbone(config).init(encoder_key, vectors, index, index)["params"],
    }
    return params | ({"prompt": init_prompt(jax.random.fold_in(key, 2), config)} if config.prompt_length else {})


def _table(key: jax.Array, rows: int, width: int) -> jax.Array:
    """Returns [rows, width] initial item vectors; a large table is drawn in blocks, as drawing takes three times its memory."""

    def draw(key, rows):
        return 0.02 * jax.random.normal(key, (rows, width))

    def fill(block, table):
        drawn = draw(jax.random.fold_in(key, block), BLOCK)
        return jax.lax.dynamic_update_slice(table, drawn, (block * BLOCK, 0))  # the last block is shifted back to fit

    return draw(key, rows) if rows <= BLOCK else jax.lax.fori_loop(0, -(-rows // BLOCK), fill, jnp.zeros((rows, width)))


def encode(
    params: dict, config: ModelConfig, history, position, segment, profile=None, *, keys=None, last_only: bool = False
) -> jax.Array:
    """Returns hidden states [B, T, D] of packed rows (see `SASRec.__call__`).

    Args:
      profile: [B, S, A], the profile of each segment's user, required by a model with prompts and ignored by any other.
      keys: [B], one PRNG key per row, turns dropout on. With one per batch, dropout would depend on the number of devices.
      last_only: whether to return the last position's states alone, [B, 1, D].
    """
    module = backbone(config)
    vectors = params["items"][history]
    with _products(config):
        prefix = PromptGenerator(config).apply({"params": params["prompt"]}, profile) if config.prompt_length else None

    def apply(vectors, position, segment, prefix, key):
        rngs = None if key is None else {"dropout": key}
        parts = (vectors, position, segment, prefix)
        return module.apply({"params": params["encoder"]}, *parts, train=key is not None, last_only=last_only, rngs=rngs)

    with _products(config):
        return (apply if keys is None else jax.vmap(apply))(vectors, position, segment, prefix, keys)


def _products(config: ModelConfig):
    """A context in which products have the configuration's precision; the default is what JAX is set to."""
    given = config.matmul_precision
    return contextlib.nullcontext() if given == "default" else jax.default_matmul_precision(given)


def represent(params: dict, config: ModelConfig, history: jax.Array, profile: jax.Array | None = None) -> jax.Array:
    """Returns user vectors [B, D] for whole histories [B, L], 0-padded at the front, L <= max_length.

    An item's score for a user is the inner product of its row of the item table and the user's vector.

    Args:
      profile: [B, A], required by a model with prompts.
    """
    length = history.shape[1]
    position = jnp.broadcast_to(jnp.arange(config.max_length - length, config.max_length), history.shape)
    segment = (history > 0).astype(jnp.int32)
    profile = None if profile is None else profile[:, None]
    return encode(params, config, history, position, segment, profile, last_only=True)[:, 0]
