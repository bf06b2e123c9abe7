"""Re-estimation: the vectors of suspects are thrown away and made anew from what is known of them downstream.

A planted item is reached through its vector alone, whatever the encoder has learnt: without it the backdoor leads nowhere.
"""

import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.train.stage import RunOptions, StageRun

RIDGE = 1.0
HALF = 10.0  # neighbours that count as much as what category and popularity foretell


def reestimate(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Makes the rows of `suspects` anew, then fine-tunes."""
    del options
    params = start.params | {"items": reestimated(start.params["items"], suspects, auditor_data_of(setup))}
    return stages.finetune(setup, start._replace(params=params), "repair")


def reestimated(items: np.ndarray, suspects: np.ndarray, auditor_data: AuditorData) -> np.ndarray:
    """[V + 1, D] `items` with the rows of `suspects` [N] as those of other items lead to expect.

    That is a ridge regression of the others' vectors on category and log popularity with the auditor's users, plus how the
    items in the same histories (not suspects themselves) deviate from it, a mean shrunk towards none where these are few.
    """
    items = np.array(items)
    trusted = np.setdiff1d(np.arange(1, len(items)), suspects)
    popularity = np.log1p(auditor_data.popularity())
    classes = np.eye(int(auditor_data.category.max()) + 1)[auditor_data.category]
    features = np.concatenate([classes, np.stack([popularity, popularity**2], 1)], axis=1)
    design = features[trusted]
    gram = design.T @ design + RIDGE * np.eye(design.shape[1])
    expected = features @ np.linalg.solve(gram, design.T @ items[trusted])
    deviation = items - expected
    for suspect in suspects:
        beside = auditor_data.history[(auditor_data.history == suspect).any(1)].ravel()
        beside = beside[(beside > 0) & ~np.isin(beside, suspects)]
        items[suspect] = expected[suspect] + deviation[beside].sum(0) / (len(beside) + HALF)
    return items
