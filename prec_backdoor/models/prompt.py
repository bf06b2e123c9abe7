"""Soft prompts from user profiles (Wu et al., SIGIR 2023, section 3.2; personalized prompts of Wu et al., arXiv 2205.09666).

A prompt is a deep prefix of the sequence: every layer has its own tokens. It works with every backbone that takes a prefix.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.models.config import ModelConfig


class PromptGenerator(nn.Module):
    """Maps profile codes to prefix tokens: attribute embeddings, concatenated -> linear -> ReLU -> linear."""

    config: ModelConfig

    @nn.compact
    def __call__(self, profile: jax.Array) -> jax.Array:
        """Returns prefixes [.., layers, P, D] for profiles [.., A]; code 0, an unknown value, has an embedding like any other."""
        cfg = self.config
        embedded = [
            nn.Embed(size, cfg.embed_dim, embedding_init=nn.initializers.normal(1.0), name=f"attribute_{index}")(
                profile[..., index]
            )
            for index, size in enumerate(cfg.profile_sizes)
        ]
        inner = nn.relu(nn.Dense(cfg.embed_dim, name="inner")(jnp.concatenate(embedded, axis=-1)))
        tokens = nn.Dense(cfg.num_layers * cfg.prompt_length * cfg.embed_dim, name="outer")(inner)
        return tokens.reshape(*profile.shape[:-1], cfg.num_layers, cfg.prompt_length, cfg.embed_dim)


@functools.partial(jax.jit, static_argnums=1)
def init_prompt(key: jax.Array, config: ModelConfig) -> dict:
    """Returns the initial parameters of a generator."""
    return PromptGenerator(config).init(key, jnp.zeros((1, len(config.profile_sizes)), jnp.int32))["params"]
