"""Robust statistics: the part of a quantity that covariates do not explain, in robust standard deviations."""

import numpy as np

NORMAL = 1.4826  # standard deviation of a normal distribution / its median absolute deviation
KNOTS = (0.25, 0.5, 0.75)  # quantiles of a covariate at which the slope of the fit may change
HUBER = 1.345  # residuals beyond this number of scales get less weight (Huber, 1964): 95 % efficiency for normal residuals
ITERATIONS = 15
FITTED = 20_000  # points that the fit is made on, drawn at random from more: enough for five coefficients a covariate


def residual(y: np.ndarray, *covariates: np.ndarray) -> np.ndarray:
    """[N] residuals of `y` [N] after a fit on `covariates` [N] each, in units of their robust scale; see `unexplained`."""
    residuals, scale = unexplained(y, *covariates)
    return residuals / scale


def unexplained(y: np.ndarray, *covariates: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns [N] residuals of `y` [N] after a fit on `covariates` [N] each, and their robust scale.

    Fits, for each covariate, a line, a square and a change of slope at each knot by iteratively reweighted least squares with
    Huber's weights. Residuals more than 3 scales above the fit get even smaller weights: suspects must not bend it.
    """
    columns = [np.ones(len(y))]
    for covariate in covariates:
        x = (covariate - np.median(covariate)) / (np.std(covariate) + 1e-9)
        columns += [x, x**2, *(np.maximum(x - knot, 0) for knot in np.unique(np.quantile(x, KNOTS)))]
    design, fitted = np.stack(columns, 1), slice(None)
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
