"""Comparing scores on the chip: a Pallas kernel for GPUs and TPUs that multiplies, compares and counts, and writes no scores."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from prec_backdoor.models import EXACT, scoring

LANES, BITS = 128, 32  # items of a product; bits of a word, and products of a tile
TILE = LANES * BITS
WIDEST = 64  # inner dimension that a GPU multiplies at once, at most: Triton holds all factors of a product in registers
# On a GPU, float32 products as three products of TF32 parts, by its tensor cores. At 110,000 items and D 64 on an H200, the
# largest error is 1.1e-5, that of float32 arithmetic, which takes 1.9 times as long.
TF32_PARTS = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3


def doubled_ahead(scores: jax.Array, reference: jax.Array) -> jax.Array:
    """2 where the score is ahead of the reference, 1 for a tie, 0 where it is behind; 2 if one of them is not a number."""
    return (~(scores <= reference)).astype(jnp.int32) + (~(scores < reference)).astype(jnp.int32)


def count_ahead(
    hidden: jax.Array, items: jax.Array, rows: int | jax.Array, left_out: jax.Array, reference: jax.Array
) -> jax.Array:
    """Returns [B, Q] int32, the sum of `doubled_ahead` over the first `rows` of `items` [V, D] but those left out for the user.

    Scores, products with the users' vectors `hidden` [B, D], are compared with `reference` [B, Q] where they are computed. They
    are float32 products: a GPU computes them as three products of TF32 parts, a TPU as six products of bfloat16 parts, as XLA
    does. On a CPU the kernel is interpreted, for tests.

    Args:
      left_out: [B, K] int32 rows that do not compete; repeated ones count once, and those outside these rows not at all.
    """
    width = min(WIDEST, max(16, pl.next_power_of_2(items.shape[1])))
    padded = _pad(items.astype(jnp.float32), TILE, width)
    words, number = _words(left_out, rows, len(padded))
    in_registers = triton.CompilerParams(num_warps=4, num_stages=1)
    counts = jax.lax.platform_dependent(
        _pad(hidden.astype(jnp.float32), 1, width),
        padded,
        words,
        reference,
        cpu=functools.partial(_call, users=8, interpret=True),
        tpu=functools.partial(_call, users=256),
        default=functools.partial(
            _call, users=64, width=width, precision=TF32_PARTS, loop=jax.lax.fori_loop, compiler_params=in_registers
        ),
    )
    return counts - number * doubled_ahead(-jnp.inf, reference)


def _pad(array: jax.Array, *multiples: int) -> jax.Array:
    """Fills up each axis with zeros to a multiple."""
    return jnp.pad(array, [(0, -size % multiple) for size, multiple in zip(array.shape, multiples, strict=True)])


def _words(left_out: jax.Array, rows: int | jax.Array, padded: int) -> tuple[jax.Array, jax.Array]:
    """Returns as bits what is left out of `padded` rows, [B, padded / BITS] int32, and the number of these bits, [B, 1].

    Rows from `rows` on are fillers and left out for all. Bit j of word l of a tile is the tile's row j * LANES + l, so that a
    product needs the same bit of LANES words.
    """
    left_out = jnp.sort(left_out, axis=1)
    first = jnp.diff(left_out, axis=1, prepend=-1) > 0
    chosen = (left_out >= 0) & (left_out < rows) & first
    filler = jnp.arange(padded, dtype=jnp.int32).reshape(-1, BITS, LANES) >= rows
    bits = jnp.int32(1) << jnp.arange(BITS, dtype=jnp.int32)
    words = jnp.where(filler, bits[:, None], 0).sum(1, dtype=jnp.int32).reshape(1, -1)
    at = jnp.where(chosen, left_out // TILE * LANES + left_out % LANES, words.shape[1])  # beyond the words: dropped
    words = jnp.broadcast_to(words, (len(left_out), words.shape[1]))
    words = words.at[jnp.arange(len(words))[:, None], at].add(bits[left_out // LANES % BITS], mode="drop")
    return words, (padded - rows) + chosen.sum(1, keepdims=True)


def _unrolled(start: int, stop: int, body: Callable, carry):
    for index in range(start, stop):
        carry = body(index, carry)
    return carry


def _call(
    hidden, items, words, reference, *, users: int, width: int = 0, precision=EXACT, loop: Callable = _unrolled, **options
) -> jax.Array:
    """Runs the kernel on blocks of so many users and tiles of items; `width` 0 is the whole width."""
    number, (hidden, words, reference) = len(hidden), (_pad(array, users, 1) for array in (hidden, words, reference))
    (rows, size), queries, tiles = hidden.shape, reference.shape[1], len(items) // TILE
    counts = pl.pallas_call(
        functools.partial(_kernel, width=width or size, precision=precision, loop=loop),
        grid=(rows // users, tiles),
        in_specs=[
            pl.BlockSpec((users, size), lambda block, tile: (block, 0)),
            pl.BlockSpec((TILE, size), lambda block, tile: (tile, 0)),
            pl.BlockSpec((users, LANES), lambda block, tile: (block, tile)),
            pl.BlockSpec((users, queries), lambda block, tile: (block, 0)),
        ],
        out_specs=pl.BlockSpec((1, users, queries), lambda block, tile: (tile, block, 0)),
        out_shape=jax.ShapeDtypeStruct((tiles, rows, queries), jnp.int32),
        **options,
    )(hidden, items, words, reference)
    return counts.sum(0)[:number]


def _kernel(hidden, items, words, reference, counts, *, width: int, precision, loop: Callable) -> None:
    """Counts for a block of users and a tile of items; what is left out has the score -inf.

    A `loop` over factors and references that is not unrolled keeps a GPU's compiler from loading them all at once.
    """
    left_out, queries = words[...], reference.shape[1]

    def add_product(index, _):
        rows = pl.ds(index * LANES, LANES)

        def add_part(part, scores):
            columns = pl.ds(part * width, width)
            return scores + scoring.scores("bd,vd->bv", hidden[:, columns], items[rows, columns], precision)

        scores = loop(0, hidden.shape[1] // width, add_part, jnp.zeros(left_out.shape, jnp.float32))
        scores = jnp.where((left_out >> index) & 1 == 1, -jnp.inf, scores)

        def compare(query, _):
            counts[0, :, pl.ds(query, 1)] += doubled_ahead(scores, reference[:, pl.ds(query, 1)]).sum(1, keepdims=True)

        loop(0, queries, compare, None)

    for query in range(queries):  # one by one: Triton writes arrays of a power of two alone
        counts[0, :, pl.ds(query, 1)] = jnp.zeros((len(left_out), 1), jnp.int32)
    jax.lax.fori_loop(0, BITS, add_product, None)
