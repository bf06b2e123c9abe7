import numpy as np

from prec_backdoor.audit import robust
from prec_backdoor.audit.robust import residual


def test_outliers_stand_out_and_do_not_bend_the_fit():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 4, 500)
    noise = rng.normal(0, 0.1, 500)
    y = np.sin(x / 2) + noise
    planted = np.flatnonzero(x < 0.3)[:15]
    y[planted] += 1.0
    found = residual(y, x)
    rest = np.setdiff1d(np.arange(500), planted)
    assert found[planted].min() > 6 and np.abs(found[rest]).max() < 5
    np.testing.assert_allclose(found[rest], noise[rest] / 0.1, atol=0.9)


def test_it_is_in_units_of_its_own_scale():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 400))
    np.testing.assert_allclose(residual(1000 * y + 7, x), residual(y, x), rtol=1e-5, atol=1e-5)


def test_a_covariate_that_never_changes():
    y = np.random.default_rng(2).normal(size=50)
    assert np.isfinite(residual(y, np.zeros(50))).all()


def test_a_fit_on_some_of_many_points_is_nearly_that_on_all(monkeypatch):
    rng = np.random.default_rng(3)
    x = rng.exponential(size=40_000)
    y = np.log1p(x) + 0.1 * rng.normal(size=len(x))
    of_some = residual(y, x)
    monkeypatch.setattr(robust, "FITTED", len(x))
    assert np.quantile(np.abs(of_some - residual(y, x)), 0.99) < 0.1
