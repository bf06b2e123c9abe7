"""Robust statistics: the part of a quantity that covariates do not explain, in robust standard deviations."""

from collections.abc import Sequence

import numpy as np

NORMAL = 1.4826  # standard deviation of a normal distribution / its median absolute deviation
KNOTS = (0.25, 0.5, 0.75)  # quantiles of a covariate at which the slope of the fit may change
HUBER = 1.345  # residuals beyond this number of scales get less weight (Huber, 1964): 95 % efficiency for normal residuals
ITERATIONS = 15
FITTED = 20_000  # points that the fit is made on, drawn at random from more: enough for five coefficients a covariate


def residual(y: np.ndarray, *covariates: np.ndarray) -> np.ndarray:
    """[.., N] residuals of each row of `y` [.., N] by itself, in units of their robust scale; see `unexplained`."""
    design = _design(covariates)
    return np.reshape([residuals / scale for residuals, scale in (_explain(row, design) for row in np.atleast_2d(y))], y.shape)


def unexplained(y: np.ndarray, *covariates: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns [N] residuals of `y` [N] after a fit on `covariates` [N] each, and their robust scale.

    Fits, for each covariate, a line, a square and a change of slope at each knot by iteratively reweighted least squares with
    Huber's weights. Residuals more than 3 scales above the fit get even smaller weights: suspects must not bend it.
    """
    return _explain(y, _design(covariates))


def _design(covariates: Sequence[np.ndarray]) -> np.ndarray:
    """[N, columns] what the covariates [N] are fitted by."""
    columns = [np.ones(len(covariates[0]))]
    for covariate in covariates:
        x = (covariate - np.median(covariate)) / (np.std(covariate) + 1e-9)
        columns += [x, x**2, *(np.maximum(x - knot, 0) for knot in np.unique(np.quantile(x, KNOTS)))]
    return np.stack(columns, 1)


def _explain(y: np.ndarray, design: np.ndarray) -> tuple[np.ndarray, float]:
    fitted = slice(None)
    if len(y) > FITTED:
        fitted = np.sort(np.random.default_rng(0).permutation(len(y))[:FITTED])
    coefficients, scale = _fit(y[fitted], design[fitted])
    return y - design @ coefficients, scale


def _fit(y: np.ndarray, design: np.ndarray) -> tuple[np.ndarray, float]:
    """The coefficients of the last fit, and the robust scale of its residuals."""
    weight = np.ones(len(y))
    for _ in range(ITERATIONS):
        weighted = design.T * weight
        coefficients = np.linalg.solve(weighted @ design + 1e-3 * np.eye(design.shape[1]), weighted @ y)
        residuals = y - design @ coefficients
        scale = robust_scale(residuals, 1e-12)
        distance = np.abs(residuals) / scale
        weight = 1 / np.maximum(1, distance / HUBER) * np.where(residuals > 3 * scale, (3 / np.maximum(distance, 3)) ** 2, 1)
    return coefficients, scale


def robust_scale(residuals: np.ndarray, minimum: float) -> float:
    """Robust standard deviation of residuals around 0, at least `minimum`: 1.4826 times the median of their absolute values."""
    return max(NORMAL * np.median(np.abs(residuals)), minimum)
