"""The backbones' formulas in numpy, for one history by itself: (encoder's parameters, config, vectors [n, D], prefix) -> [n, D].

Padding that items see is written out. A prefix [layers, P, D] is one segment's.
"""

import numpy as np
from scipy.special import erf, expit

from prec_backdoor.models.gru4rec import GRU4RecParameters
from prec_backdoor.models.hstu import HSTUParameters
from prec_backdoor.models.sasrec import SASRecParameters

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def dense(x, weights):
    return x @ weights["kernel"] + weights["bias"]


def norm(x, weights, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weights["scale"] + weights["bias"]


def attention(queries, keys, weights, heads, mask):
    """[n, D] for queries [n, D] and keys [m, D], head by head."""
    query, key, value = (dense(x, weights[name]) for x, name in ((queries, "query"), (keys, "key"), (keys, "value")))
    size, mixed = query.shape[1] // heads, []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        logits = np.where(mask, query[:, own] @ key[:, own].T / np.sqrt(size), -np.inf)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        mixed.append(shares / shares.sum(-1, keepdims=True) @ value[:, own])
    mixed = np.concatenate(mixed, axis=1)
    return dense(mixed, weights["out"]) if "out" in weights else mixed


def with_tokens(prefix, layer, keys, mask):
    """Keys and mask with the layer's tokens in front."""
    if prefix is None:
        return keys, mask
    tokens = prefix[layer]
    return np.concatenate([tokens, keys]), np.concatenate([np.ones((len(mask), len(tokens)), bool), mask], axis=1)


def feed_forward(x, weights, layer, activation):
    inner = ACTIVATIONS[activation](dense(x, weights[f"feedforward_in_{layer}"]))
    return dense(inner, weights[f"feedforward_out_{layer}"])


def sasrec(weights, config, vectors, prefix=None):
    own, number, longest = SASRecParameters(**config.parameters), len(vectors), config.max_length
    at = np.arange(number) if own.positions == "oldest" else np.arange(longest - number, longest)
    x = vectors * (np.sqrt(config.embed_dim) if own.scale_embeddings else 1) + weights["Embed_0"]["embedding"][at]
    padding = 0 if own.padding == "masked" else longest - number
    filler = weights["padding"] if own.padding == "encoded" else np.zeros(config.embed_dim)
    x = np.concatenate([np.tile(filler, (padding, 1)), x])
    x = norm(x, weights["norm_in"], own.epsilon) if own.input_norm else x
    for layer in range(config.num_layers):
        if own.padding == "zero":
            x[:padding] = 0
        before, after = weights[f"norm_attention_{layer}"], weights[f"norm_feedforward_{layer}"]
        queries = x if own.norm == "post" else norm(x, before, own.epsilon)
        keys, mask = with_tokens(prefix, layer, queries if own.norm == "pre" else x, np.tri(len(x), dtype=bool))
        if prefix is not None:
            mask[:padding, : prefix.shape[1]] = False  # padding sees no prompt
        attended = attention(queries, keys, weights[f"attention_{layer}"], config.num_heads, mask)
        x = (x if own.norm == "pre" else queries) + attended
        x = norm(x, before, own.epsilon) if own.norm == "post" else x
        inner = x if own.norm == "post" else norm(x, after, own.epsilon)
        x = (inner if own.norm == "query" else x) + feed_forward(inner, weights, layer, own.activation)
        x = norm(x, after, own.epsilon) if own.norm == "post" else x
    x = norm(x, weights["norm_final"], own.final_epsilon) if own.final_norm else x
    return x[padding:]


def gru4rec(weights, config, vectors, prefix=None):
    """Item by item, gate by gate; the prefix is so many items more in front."""
    x = vectors if prefix is None else np.concatenate([*prefix, vectors])
    width = GRU4RecParameters(**config.parameters).hidden_dim
    for layer in range(config.num_layers):
        into, within = (np.split(weights[f"layer_{layer}"][name], 3, axis=1) for name in ("input", "hidden"))
        state, states = np.zeros(width), []
        for given in x:
            reset = expit(given @ into[0] + state @ within[0])
            update = expit(given @ into[1] + state @ within[1])
            new = np.tanh(given @ into[2] + reset * (state @ within[2]))
            state = (1 - update) * new + update * state
            states.append(state)
        x = np.array(states)
    return dense(x, weights["dense"])[-len(vectors) :]


def bert4rec(weights, config, vectors, prefix=None):
    x = norm(vectors + weights["Embed_0"]["embedding"][: len(vectors)], weights["norm_in"], 1e-12)
    for layer in range(config.num_layers):
        keys, mask = with_tokens(prefix, layer, x, np.ones((len(x), len(x)), bool))
        x = x + attention(x, keys, weights[f"attention_{layer}"], config.num_heads, mask)
        x = norm(x, weights[f"norm_attention_{layer}"], 1e-12)
        x = norm(x + feed_forward(x, weights, layer, "gelu"), weights[f"norm_feedforward_{layer}"], 1e-12)
    return norm(ACTIVATIONS["gelu"](dense(x, weights["head"])), weights["norm_head"], 1e-12)


def hstu(weights, config, vectors, prefix=None):
    """Query by query and key by key."""
    longest, number, width = config.max_length, len(vectors), config.embed_dim
    size = width // config.num_heads
    x = vectors * np.sqrt(width) + weights["Embed_0"]["embedding"][longest - number :]
    for layer in range(config.num_layers):
        tokens = np.zeros((0, width)) if prefix is None else prefix[layer]
        inner = dense(np.concatenate([tokens, norm(x, weights[f"norm_in_{layer}"], 1e-6)]), weights[f"in_{layer}"])
        gate, value, query, key = np.split(inner * expit(inner), 4, axis=1)
        mixed = np.zeros_like(x)
        for t in range(number):
            for s in range(len(tokens) + t + 1):
                bias = 0.0
                if s >= len(tokens) and HSTUParameters(**config.parameters).relative_positions:
                    bias = weights[f"distances_{layer}"][t - (s - len(tokens))]
                for head in range(config.num_heads):
                    own = slice(head * size, (head + 1) * size)
                    logit = query[len(tokens) + t, own] @ key[s, own] + bias
                    mixed[t, own] += logit * expit(logit) / longest * value[s, own]
        gated = norm(mixed, weights[f"norm_out_{layer}"], 1e-6) * gate[len(tokens) :]
        x = x + dense(gated, weights[f"out_{layer}"])
    return norm(x, weights["norm_final"], 1e-6)


ENCODERS = {"sasrec": sasrec, "gru4rec": gru4rec, "bert4rec": bert4rec, "hstu": hstu}
