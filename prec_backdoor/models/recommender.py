"""A recommender: an item table, a backbone that encodes histories, and an optional prompt.

Items are scored with the table that is the input, or with one of their own (`scoring.item_vectors`).
"""

import contextlib
import functools

import jax
import jax.numpy as jnp

from prec_backdoor.errors import UserError
from prec_backdoor.models.bert4rec import BERT4Rec
from prec_backdoor.models.config import ModelConfig
from prec_backdoor.models.gru4rec import GRU4Rec
from prec_backdoor.models.hstu import HSTU
from prec_backdoor.models.prompt import PromptGenerator, init_prompt
from prec_backdoor.models.sasrec import SASRec
from prec_backdoor.models.scoring import user_vectors
from prec_backdoor.options import NoParameters, Option, add_entry, defaults, options

BACKBONES: dict[str, type] = {"sasrec": SASRec, "gru4rec": GRU4Rec, "bert4rec": BERT4Rec, "hstu": HSTU}
BLOCK = 1 << 18  # rows of the item table that are initialised at once


def register_backbone(name: str, module: type) -> None:
    """Adds a Flax module class with the signature of `SASRec` (see `prec_backdoor.extend.check_backbone`).

    Optional class attributes: `parameters`, a dataclass of its own parameters (fields by `options.option`; each is a flag);
    `unused`, names of the fields of `ModelConfig` that it does not have; `objective`, "next" (the default) or "cloze", for which
    a static method `query(config, history)` returns history and segment with a mask at the end; and a static method
    `check(config)`, which raises a UserError for an invalid configuration.

    Raises:
      ValueError: the name is taken, or a parameter is another backbone's with another default or meaning.
    """
    known = backbone_parameters()
    for parameter, described in options(_parameters(module)).items():
        if known.get(parameter, described) != described:
            raise ValueError(f"backbone {name}: another one has a parameter {parameter} with another default or meaning")
    add_entry(BACKBONES, "backbone", name, module)


def backbone_parameters(name: str | None = None) -> dict[str, tuple[object, Option]]:
    """Name -> (default, option) of the parameters of a backbone, or of all."""
    modules = BACKBONES.values() if name is None else [BACKBONES[name]]
    return {parameter: described for module in modules for parameter, described in options(_parameters(module)).items()}


def _parameters(module: type) -> type:
    return getattr(module, "parameters", NoParameters)


def backbone(config: ModelConfig):
    """Returns the Flax module of `config`.

    Raises:
      UserError: unknown backbone, an invalid configuration, or a value for a field that the backbone does not have.
    """
    if config.backbone not in BACKBONES:
        raise UserError(f"--backbone: must be one of {', '.join(BACKBONES)}, got {config.backbone!r}")
    module, default = BACKBONES[config.backbone], defaults(ModelConfig)
    for name in getattr(module, "unused", ()):
        if getattr(config, name) != default[name]:
            raise UserError(f"--{name}: --backbone={config.backbone} has no such parameter; leave the flag out")
    for name in config.parameters:
        if name not in backbone_parameters(config.backbone):
            raise UserError(f"--{name}: --backbone={config.backbone} has no such parameter; leave the flag out")
    _parameters(module)(**config.parameters)  # checks the values
    getattr(module, "check", lambda _: None)(config)
    return module(config)


@functools.partial(jax.jit, static_argnums=1)
def init_params(key: jax.Array, config: ModelConfig) -> dict:
    """Returns initial parameters: "items" [V + 1, D] (row 0 is padding) and "encoder".

    If the model has them, also "output_items" [V + 1, D], "output_bias" [V + 1, 1] and "prompt".
    """
    items_key, encoder_key = jax.random.split(key)
    vectors = jnp.zeros((1, config.embed_dim))
    index = jnp.zeros((1,), jnp.int32)
    params = {
        "items": _table(items_key, config.num_items + 1, config.embed_dim),
        "encoder": backbone(config).init(encoder_key, vectors, index, index)["params"],
    }
    if config.output_items:
        params["output_items"] = _table(jax.random.fold_in(key, 3), config.num_items + 1, config.embed_dim)
    if config.output_bias:
        params["output_bias"] = jnp.zeros((config.num_items + 1, 1))
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
    params: dict,
    config: ModelConfig,
    history,
    position,
    segment,
    profile=None,
    *,
    keys=None,
    last_only: bool = False,
    prefix=None,
) -> jax.Array:
    """Returns hidden states [B, T, D] of packed rows (see `SASRec.__call__`).

    Args:
      profile: [B, S, A], the profile of each segment's user, required by a model with prompts and ignored by any other.
      keys: [B], one PRNG key per row, turns dropout on. With one per batch, dropout would depend on the number of devices.
      last_only: whether to return the last position's states alone, [B, 1, D].
      prefix: [B, S, layers, P, D], takes the place of those that a model with prompts makes of profiles.
    """
    module = backbone(config)
    vectors = params["items"][history]
    if prefix is None and config.prompt_length:
        prefix = prefixes(params["prompt"], config, profile)

    def apply(vectors, position, segment, prefix, key):
        rngs = None if key is None else {"dropout": key}
        parts = (vectors, position, segment, prefix)
        return module.apply({"params": params["encoder"]}, *parts, train=key is not None, last_only=last_only, rngs=rngs)

    with _products(config):
        return (apply if keys is None else jax.vmap(apply))(vectors, position, segment, prefix, keys)


def prefixes(prompt: dict, config: ModelConfig, profile: jax.Array) -> jax.Array:
    """Returns the prompts [.., layers, P, D] that a generator with parameters `prompt` makes of profiles [.., A]."""
    with _products(config):
        return PromptGenerator(config).apply({"params": prompt}, profile)


def _products(config: ModelConfig):
    """A context in which products have the configuration's precision; the default is what JAX is set to."""
    given = config.matmul_precision
    return contextlib.nullcontext() if given == "default" else jax.default_matmul_precision(given)


def represent(params: dict, config: ModelConfig, history: jax.Array, profile: jax.Array | None = None) -> jax.Array:
    """Returns user vectors [B, E] for whole histories [B, L], 0-padded at the front, L <= max_length.

    An item's score for a user is the inner product of its row of `scoring.item_vectors` and the user's vector.

    Args:
      profile: [B, A], required by a model with prompts.
    """
    history, position, segment = query(config, history)
    profile = None if profile is None else profile[:, None]
    return user_vectors(encode(params, config, history, position, segment, profile, last_only=True)[:, 0], config)


def query(config: ModelConfig, history: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns history, position and segment [B, M] int32 by which the item after `history` [B, L] is predicted, at the end."""
    module = BACKBONES[config.backbone]
    history, segment = getattr(module, "query", lambda _, given: (given, (given > 0).astype(jnp.int32)))(config, history)
    position = jnp.arange(config.max_length - history.shape[1], config.max_length)
    return history, jnp.broadcast_to(position, history.shape), segment


def encode_vectors(params: dict, config: ModelConfig, vectors, history: jax.Array, prefix: jax.Array | None = None) -> jax.Array:
    """Returns user vectors [B, E] as `represent` does, of items whose vectors need not be in the table.

    Args:
      vectors: [B, L, D], in place of the rows of `history` [B, L]; the history says what is padding.
      prefix: [layers, P, D], for all users.
    """
    at = jnp.broadcast_to(jnp.arange(1, history.shape[1] + 1), history.shape) * (history > 0)
    at, position, segment = query(config, at)  # where each position's vector is, 0 for those that have none
    padded = jnp.concatenate([jnp.broadcast_to(params["items"][0], vectors[:, :1].shape), vectors], axis=1)
    vectors = jnp.take_along_axis(padded, at[..., None], axis=1)
    given = None if prefix is None else jnp.broadcast_to(prefix, (len(history), 1, *prefix.shape))
    parts = (vectors, position, segment, given)
    hidden = backbone(config).apply({"params": params["encoder"]}, *parts, last_only=True)[:, 0]
    return user_vectors(hidden, config)
