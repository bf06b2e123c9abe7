"""All programs are lowered for GPU and TPU on a machine that has neither, with the choices for these platforms."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from programs import OTHERS, SCORING, STAGES

PROGRAMS = SCORING | STAGES | OTHERS


RANK_KERNELS = {"cuda": "__gpu$xla.gpu.triton", "tpu": "tpu_custom_call"}
PLATFORMS = tuple(RANK_KERNELS)
KERNELS = ("__gpu$xla.gpu.triton", "__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward")
UNSTABLE = [jax.export.DisabledSafetyCheck.custom_call(name) for name in KERNELS]  # which a later JAX may not run
GPU = jax.sharding.AbstractDevice(platform="gpu", device_kind="NVIDIA H100 80GB HBM3", num_cores=None)  # Pallas asks for it


def lowered(function, args, platforms=PLATFORMS, backend="gpu"):
    """The program for platforms, traced anew (once for all), as what was traced for a CPU has its choices."""
    plain = getattr(function, "__wrapped__", function)
    with pytest.MonkeyPatch.context() as patch, jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=GPU)):
        patch.setattr(jax, "default_backend", lambda: backend)
        return jax.export.export(jax.jit(lambda *args: plain(*args)), platforms=platforms, disabled_checks=UNSTABLE)(*args)


RANKING = [name for name in PROGRAMS if name.startswith("ranking")]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in RANKING])
def test_it_is_lowered(name):
    found = lowered(*PROGRAMS[name]())
    assert found.platforms == PLATFORMS
    assert not any(kernel in found.mlir_module() for kernel in RANK_KERNELS.values())


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", RANKING)
def test_ranking_is_lowered_to_the_kernel_of_its_platform(name, platform):
    """Each by itself, as Pallas lowers a kernel of Triton for no other platform."""
    found = lowered(*PROGRAMS[name](), [platform], "gpu" if platform == "cuda" else platform)
    assert [kernel in found.mlir_module() for kernel in RANK_KERNELS.values()] == [platform == each for each in RANK_KERNELS]


@pytest.mark.parametrize(
    "name",
    [
        "ranking of several tiles",
        "pretrain, bra-group",
        pytest.param("pretrain, lazy", marks=pytest.mark.slow),
        pytest.param("finetune with a prompt", marks=pytest.mark.slow),
        pytest.param("pretrain, 3 models of 3 seeds", marks=pytest.mark.slow),
    ],
)
def test_the_choices_of_a_platform_give_the_same_results(name):
    function, args = PROGRAMS[name]()
    expected = jax.jit(lambda *args: function(*args))(*args)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        found = jax.jit(lambda *args: function(*args))(*args)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def loops(backend):
    """Number of loops in a training program, the one over steps included."""
    return lowered(*STAGES["pretrain, bra-group"](), ["cuda"], backend).mlir_module().count("stablehlo.while")


def test_the_search_for_negatives_has_no_loop_on_an_accelerator():
    """A loop costs a GPU a round trip to the host at every turn."""
    assert loops("cpu") == loops("gpu") + 1
