"""What is done in another way on another platform, in one place, with the figure that decides it."""

import math
from typing import NamedTuple

import jax


class Choices(NamedTuple):
    """How programs are laid out for a platform; results are equal but for rounding and the draws of dropout.

    Attributes:
      update_tiles: parts in which a lazy step updates the touched item rows; only filled parts cost time. On 2 CPU cores a step
        with 2 to 4 of them takes 5 % less time than with 1. On an accelerator a loop of data-dependent length costs more than it
        saves, and under vmap it would copy whole tables.
      attention_halves: the least number of queries that are cut in two; the first half then skips the keys that only the second
        can see. On one CPU core a training step of 200 queries takes 4 % less time, one of 50 the same, and a program of two
        layers compiles 11 % longer. On an H100 the copies that put the halves together cost more (element-wise passes are nearly
        all of a step of 4,096 sequences).
      unroll_search: whether the binary search for negatives is unrolled. On an H100 its loop has a host in it: a step has 250
        kernels with the loop, 204 without. A CPU compiles the unrolled search twice as long.
      flat_parameters: whether a call trains the encoder's parameters as one vector (`train.flat`). Compiled for an H100, a step
        has 122 kernels with it, 188 without. A CPU starts no kernels, and would copy the parameters out of the vector.
      rank_users, rank_tile: users and items that ranking scores at once, over all devices. On a CPU a megabyte of scores, which
        stays in its cache; on an H100, 108 rounds of four small kernels at 110,000 items. On an H200, 4,096 users and 131,072
        items take 4.5 ms with tiles of 256 MB and 4.4 ms with tiles of 64 MB.
      rank_kernel: whether scores are compared on the chip (`evaluation.rank_kernel`) instead of tile by tile. On an H200 it
        ranks 11 items of 110,000 for 1.45 million users/s; in tiles, multiplying and counting alone reach 1.1 million. XLA
        compiles Triton for GPUs from compute capability 8 (A100) on alone.
      together: whether models of one stage train in one program, mapped over them. On 2 CPU cores four models take 1.3 times as
        long together as one after another; an accelerator is idle most of a small model's step (0.50 of 0.91 ms on an H100).
    """

    update_tiles: int
    attention_halves: float
    unroll_search: bool
    flat_parameters: bool
    rank_users: int
    rank_tile: int
    rank_kernel: bool
    together: bool


CPU = Choices(
    update_tiles=4,
    attention_halves=100,
    unroll_search=False,
    flat_parameters=False,
    rank_users=256,
    rank_tile=1024,
    rank_kernel=False,
    together=False,
)
ACCELERATOR = Choices(
    update_tiles=1,
    attention_halves=math.inf,
    unroll_search=True,
    flat_parameters=True,
    rank_users=4096,
    rank_tile=16_384,
    rank_kernel=True,
    together=True,
)


def choices() -> Choices:
    """Returns those of the platform that JAX runs on."""
    if jax.default_backend() == "cpu":
        return CPU
    capability = getattr(jax.devices()[0], "compute_capability", "")  # of an NVIDIA GPU, as "7.5"
    major = capability.partition(".")[0]
    if not major.isdecimal():
        return ACCELERATOR
    return ACCELERATOR._replace(rank_kernel=int(major) >= 8)
