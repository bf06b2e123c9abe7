"""Robust statistics: what covariates explain of a quantity, and how far each item lies from it."""

import numpy as np

KNOTS = (0.25, 0.5, 0.75)  # quantiles at which the fit may bend
HUBER = 1.345  # residuals beyond so many scales count less (Huber, 1964); 95 % efficient for normal ones
ITERATIONS = 15


def residual(y: np.ndarray, *covariates: np.ndarray) -> np.ndarray:
    """[N] what `covariates` [N] do not explain of `y` [N], in units of its robust scale (1.4826 median absolute deviations).

    A piecewise linear fit by iteratively reweighted least squares: Huber's weights, and smaller ones still for what lies far
    above, for these are the suspects and must not bend the fit.
    """
    columns = [np.ones(len(y))]
    for covariate in covariates:
        x = (covariate - np.median(covariate)) / (np.std(covariate) + 1e-9)
        columns += [x, x**2, *(np.maximum(x - knot, 0) for knot in np.unique(np.quantile(x, KNOTS)))]
    design, weight = np.stack(columns, 1), np.ones(len(y))
    for _ in range(ITERATIONS):
        weighted = design.T * weight
        left = y - design @ np.linalg.solve(weighted @ design + 1e-3 * np.eye(len(columns)), weighted @ y)
        scale = max(1.4826 * np.median(np.abs(left)), 1e-12)
        far = np.abs(left) / scale
        weight = 1 / np.maximum(1, far / HUBER) * np.where(left > 3 * scale, (3 / np.maximum(far, 3)) ** 2, 1)
    return left / scale
