"""Estimates of a cell. An estimator is a function of one `Sample` that returns a value for each of its N draws, [N]."""

import functools
import math

import numpy as np

from prec_backdoor.evaluation.statistics import (
    Estimate,
    binomial_interval,
    difference_interval,
    is_few,
    ratio_interval,
    replicate_mean,
)
from prec_backdoor.reporting.names import (
    ABOVE_POPULARITY,
    ACCURACIES,
    ACCURACY,
    DIFFERENCE,
    EXPOSURE,
    LEFT,
    LOST,
    RANKING,
    RATIO,
    SELECTIVITY,
    Cutoffs,
)
from prec_backdoor.reporting.rank_files import PAIRED, PAIRS
from prec_backdoor.reporting.samples import Sample, Samples, Sums


def estimates(samples: Samples, cutoffs: Cutoffs) -> dict[str, Estimate]:
    """Returns every estimate that the samples allow; see `cells.Cell`."""
    measured = samples.measured
    names = [name for name in (*cutoffs.exposures, EXPOSURE, *ACCURACIES) if np.isfinite(measured.own[name]).all()]
    found = {name: rate(samples, name) for name in names}
    if measured.clean is not None:
        found[DIFFERENCE] = difference(samples, EXPOSURE, "own", "clean")
        found[RATIO] = ratio(samples, EXPOSURE, "own", "clean")
        if measured.clean[ACCURACY].any():
            found[LOST] = _lost(samples)
        if measured.before is not None and measured.before_clean is not None:
            gained_before = difference(samples, EXPOSURE, "before", "before_clean")
            if gained_before.low > 0:
                found[LEFT] = _left(samples, found[DIFFERENCE], gained_before)
    if measured.rest is not None:
        found[SELECTIVITY] = ratio(samples, EXPOSURE, "own", "rest")
    if measured.popularity is not None:
        found[ABOVE_POPULARITY] = difference(samples, RANKING, "own", "popularity")
    return found


def rate(samples: Samples, name: str, field: str = "own") -> Estimate:
    """Returns the mean of a metric over replicates: of accuracy a mean over users, of exposure one over pairs.

    With few hits, misses or users the interval is at least the exact one of as many trials as there are users with pairs.
    """
    estimate = samples.estimate(functools.partial(_rate, name=name, field=field))
    if _is_few(samples, name, field):
        estimate = estimate.cover(binomial_interval(min(estimate.mean, 1.0), _users(samples, name, field)))
    return estimate


def difference(samples: Samples, name: str, first: str, second: str) -> Estimate:
    """Returns the difference of a metric between two fields of the sample, paired by user."""
    estimate = samples.estimate(lambda sample: _rate(sample, name, first) - _rate(sample, name, second))
    if (first, second) == ("own", "clean"):
        estimate = estimate.cover(_moved(samples, name))
    if _is_few(samples, name, first, second):
        estimate = estimate.cover(difference_interval(*(rate(samples, name, field) for field in (first, second))))
    return estimate


def ratio(samples: Samples, name: str, first: str, second: str) -> Estimate:
    """Returns the ratio of a metric between two fields of the sample, paired by user; infinite if the second is 0."""
    estimate = samples.estimate(functools.partial(_ratio, name=name, first=first, second=second))
    clean = rate(samples, name, second).mean
    if (first, second) == ("own", "clean") and clean > 0:
        low, high = _moved(samples, name)
        estimate = estimate.cover((max(1 + low / clean, 0), 1 + high / clean))
    if _is_few(samples, name, first, second):
        estimate = estimate.cover(ratio_interval(*(rate(samples, name, field) for field in (first, second))))
    return estimate


def hits(sums: Sums | None) -> int | None:
    """Returns how many targets are within the last cut-off, over all replicates."""
    return None if sums is None else int(sums[EXPOSURE].sum())


def _lost(samples: Samples) -> Estimate:
    """Share of the clean model's accuracy that is lost."""
    estimate = samples.estimate(lambda sample: 1 - _ratio(sample, ACCURACY, "own", "clean"))
    clean, (low, high) = rate(samples, ACCURACY, "clean").mean, _moved(samples, ACCURACY)
    estimate = estimate.cover((-high / clean, -low / clean))
    if _is_few(samples, ACCURACY, "own", "clean"):
        low, high = ratio_interval(*(rate(samples, ACCURACY, field) for field in ("own", "clean")))
        estimate = estimate.cover((1 - high, 1 - low))
    return estimate


def _moved(samples: Samples, name: str) -> tuple[float, float]:
    """Exact interval of the difference to the clean model if few hits differ; otherwise an empty one."""
    sample = samples.measured
    if is_few(sample.moved[name.replace("ndcg", "hr")].sum(), math.inf, math.inf):
        (distance,), (gained,) = _rate(sample, name, "moved"), _rate(sample, name, "own") - _rate(sample, name, "clean")
        users = _users(samples, name, "own")
        up, down = ((distance + sign * gained) / 2 for sign in (1, -1))
        return difference_interval(*(Estimate(share, *binomial_interval(share, users)) for share in (up, down)))
    return math.inf, -math.inf


def _left(samples: Samples, gained: Estimate, gained_before: Estimate) -> Estimate:
    """Exposure above the clean model's / the same zero-shot, which is positive."""

    def value(sample: Sample) -> np.ndarray:
        now, before = (
            _rate(sample, EXPOSURE, field) - _rate(sample, EXPOSURE, clean)
            for field, clean in (("own", "clean"), ("before", "before_clean"))
        )
        return np.where(before > 0, now / np.where(before > 0, before, 1), np.inf)

    estimate = samples.estimate(value)
    if _is_few(samples, EXPOSURE, "own", "clean"):
        ends = [end / of for end in gained[1:] for of in gained_before[1:]]
        estimate = estimate.cover((min(ends), max(ends)))
    return estimate


def _rate(sample: Sample, name: str, field: str) -> np.ndarray:
    sums = getattr(sample, field)
    pairs = (sample.own if field == "moved" else sums)[PAIRS]
    of = sample.users if name in ACCURACIES else np.maximum(pairs, 1)
    return replicate_mean(sums[name] / of, sample.counts)


def _ratio(sample: Sample, name: str, first: str, second: str) -> np.ndarray:
    above, below = _rate(sample, name, first), _rate(sample, name, second)
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.where(above > 0, np.inf, 1))


def _is_few(samples: Samples, name: str, *fields: str) -> bool:
    """Whether a bootstrap of one of the fields needs the exact interval beside it."""
    for field in fields:
        sums = getattr(samples.measured, field)
        trials = samples.measured.users.sum() if name in ACCURACIES else sums[PAIRS].sum()
        number = sums[name.replace("ndcg", "hr")].sum()
        if is_few(number, trials - number, _users(samples, name, field)):
            return True
    return False


def _users(samples: Samples, name: str, field: str) -> float:
    """Different users whom the metric is measured on."""
    return samples.distinct(samples.measured.users if name in ACCURACIES else getattr(samples.measured, field)[PAIRED][0])
