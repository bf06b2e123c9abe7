"""Is the checkpoint worth having? Its accuracy on own users beside that of popularity and of models of own data alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import ObservedModel
from prec_backdoor.data.splits import sample_queries
from prec_backdoor.evaluation import popularity_ranks
from prec_backdoor.evaluation.metrics import ndcg
from prec_backdoor.experiment.measure import measure
from prec_backdoor.experiment.setup import SeedSetup

AT = 10
MODELS = 4  # models of own data that are measured
USERS = 10_000  # that they are measured on: an accuracy of 0.2 then has a standard error of 0.004
MOST_SHOWN = 0.01  # share of the catalogue


def worth_of(
    setup: SeedSetup,
    params: dict,
    calibration: Sequence[ObservedModel],
    auditor_data: AuditorData,
    top_share: np.ndarray,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns what audit.json has under "worth".

    Args:
      auditor_data: the users that calibration models were trained on; measured is the last item of own users, of at most USERS.
      top_share: [V + 1] share of users whom the checkpoint shows each item among its first 50.
      metadata: of the checkpoint.
    """
    setup, own = setup._replace(test=sample_queries(setup.test, USERS)), calibration[:MODELS]
    test = setup.test
    counts = setup.counts if setup.own else auditor_data.popularity()  # in the simulation the others are the provider's
    popular = popularity_ranks(counts, test.history, test.truth[:, None])[:, 0]
    hits = (measured := measure(setup, params).truth) <= AT
    of_own = [measure(setup, each.params).truth for each in own]
    own_hits = np.mean([ranks <= AT for ranks in of_own], axis=0)
    return {
        "users": len(test.users),
        f"hr@{AT}": float(hits.mean()),
        "popularity": float((popular <= AT).mean()),
        "own_models": float(own_hits.mean()),
        "own_models_trained": len(own),
        "gain": _mean_and_error(hits - own_hits),
        "gain_over_popularity": _mean_and_error(hits.astype(float) - (popular <= AT)),
        "claimed": claimed(metadata),
        "measured": {f"ndcg@{AT}": ndcg(measured, AT)},
        "skew": {"checkpoint": skew(top_share), "own_models": [skew(each.top_share) for each in own]},
    }


def skew(top_share: np.ndarray) -> float:
    """Share of all places among the first 50 of all users that the most shown hundredth of the catalogue takes."""
    shown = np.sort(top_share[1:])[::-1]
    return float(shown[: max(1, round(MOST_SHOWN * len(shown)))].sum() / max(shown.sum(), 1e-12))


def claimed(metadata: Mapping[str, Any]) -> dict[str, float]:
    """The accuracy that the provider's metadata declare: of its own validation users; nothing if there is none."""
    score = (metadata.get("progress") or {}).get("best_score")
    return {f"ndcg@{AT}": float(score)} if isinstance(score, int | float) and 0 <= score <= 1 else {}


def _mean_and_error(differences: np.ndarray) -> dict[str, float]:
    """The mean of paired differences between users, and its standard error."""
    return {"mean": float(differences.mean()), "error": float(differences.std() / np.sqrt(max(len(differences) - 1, 1)))}
