"""Estimators: functions of one `Sample` that return a value for each of its N draws, [N]."""

import numpy as np

from prec_backdoor.evaluation.statistics import replicate_mean
from prec_backdoor.reporting.names import ACCURACIES, ACCURACY, EXPOSURE, EXPOSURES, LEFT, LIFT, LOST, SELECTIVITY
from prec_backdoor.reporting.rank_files import PAIRS
from prec_backdoor.reporting.samples import Estimate, Sample, Samples, column


def estimates(samples: Samples) -> dict[str, Estimate]:
    """Returns every estimate that the samples allow; see `cells.Cell`."""
    found = {name: samples.estimate(lambda sample, name=name: rate(sample, name)) for name in (*EXPOSURES, *ACCURACIES)}
    measured = samples.measured
    if measured.clean is not None:
        found[LIFT] = samples.estimate(lift)
        if column(measured.clean, ACCURACY).any():
            found[LOST] = samples.estimate(lost)
        if measured.before is not None and measured.before_clean is not None and samples.estimate(lift_before).low > 1:
            found[LEFT] = samples.estimate(left)
    if measured.rest is not None:
        found[SELECTIVITY] = samples.estimate(selectivity)
    return found


def rate(sample: Sample, name: str) -> np.ndarray:
    """Mean of a metric over replicates: of accuracy a mean over users, of exposure one over pairs of a user and a target."""
    return _rate(sample, sample.sums, name)


def lift(sample: Sample) -> np.ndarray:
    """(hits + 1) / (hits of the clean model + 1)."""
    return (_hits(sample, sample.sums) + 1) / (_hits(sample, sample.clean) + 1)


def lift_before(sample: Sample) -> np.ndarray:
    """The lift of the zero-shot usage."""
    return (_hits(sample, sample.before) + 1) / (_hits(sample, sample.before_clean) + 1)


def lost(sample: Sample) -> np.ndarray:
    """Share of the clean model's accuracy that is lost."""
    now, clean = (_rate(sample, sums, ACCURACY) for sums in (sample.sums, sample.clean))
    return 1 - now / np.maximum(clean, 1e-9)


def selectivity(sample: Sample) -> np.ndarray:
    """Exposure in the group / exposure outside it. Zero outside counts as one hit, which makes the ratio a lower bound."""
    one_hit = 1 / np.maximum((column(sample.rest, PAIRS) * sample.counts).sum(1), 1)
    return _rate(sample, sample.sums, EXPOSURE) / np.maximum(_rate(sample, sample.rest, EXPOSURE), one_hit)


def left(sample: Sample) -> np.ndarray:
    """Exposure above the clean model's / the same zero-shot; infinite if the latter is not positive."""
    now, before, *clean = (
        _rate(sample, sums, EXPOSURE) for sums in (sample.sums, sample.before, sample.clean, sample.before_clean)
    )
    gained, gained_before = now - clean[0], before - clean[1]
    return np.where(gained_before > 0, gained / np.where(gained_before > 0, gained_before, 1), np.inf)


def _rate(sample: Sample, sums: np.ndarray, name: str) -> np.ndarray:
    of = sample.users if name in ACCURACIES else np.maximum(column(sums, PAIRS), 1)
    return replicate_mean(column(sums, name) / of, sample.counts)


def _hits(sample: Sample, sums: np.ndarray) -> np.ndarray:
    return (column(sums, EXPOSURE) * sample.counts).sum(1)
