import types

import jax
import pytest

from prec_backdoor.parallel import platforms


@pytest.mark.parametrize(
    ("backend", "capability", "kernel"),
    [
        ("cpu", None, False),
        ("tpu", None, True),
        ("gpu", "7.5", False),
        ("gpu", "8.0", True),
        ("gpu", "12.0", True),
        ("gpu", "gfx942", True),
    ],
)
def test_scores_are_compared_on_the_chip_where_triton_compiles(backend, capability, kernel, monkeypatch):
    device = types.SimpleNamespace(**({"compute_capability": capability} if capability else {}))
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert platforms.choices().rank_kernel == kernel
