"""Re-estimation: new vectors for the suspects, from what the downstream company knows about these items.

A planted item is reached only through its vector. When the vector is replaced, the backdoor has no effect, whatever the encoder
has learnt.
"""

import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.parallel.item_table import TABLES
from prec_backdoor.train.stage import RunOptions, StageRun

RIDGE = 1.0
PRIOR = 10.0  # neighbours that count as much as the regression on category and popularity


def reestimate(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Replaces the vectors of `suspects`, then fine-tunes."""
    del options
    auditor_data = auditor_data_of(setup)
    tables = {name: reestimated(start.params[name], suspects, auditor_data) for name in TABLES if name in start.params}
    return stages.finetune(setup, start._replace(params=start.params | tables), "repair")


def reestimated(items: np.ndarray, suspects: np.ndarray, auditor_data: AuditorData) -> np.ndarray:
    """[V + 1, D] `items` with new rows for `suspects` [N], computed from the other items.

    A new row is the prediction of a ridge regression of the other items' vectors on category and log popularity with the
    auditor's users, plus the mean residual of the items in the same histories (suspects left out), shrunk towards 0 if there
    are few.
    """
    items = np.array(items)
    trusted = np.setdiff1d(np.arange(1, len(items)), suspects)
    popularity = np.log1p(auditor_data.popularity())
    classes = np.eye(int(auditor_data.category.max()) + 1)[auditor_data.category]
    features = np.concatenate([classes, np.stack([popularity, popularity**2], 1)], axis=1)
    design = features[trusted]
    gram = design.T @ design + RIDGE * np.eye(design.shape[1])
    predicted = features @ np.linalg.solve(gram, design.T @ items[trusted])
    residual = items - predicted
    for suspect in suspects:
        neighbours = auditor_data.history[(auditor_data.history == suspect).any(1)].ravel()
        neighbours = neighbours[(neighbours > 0) & ~np.isin(neighbours, suspects)]
        items[suspect] = predicted[suspect] + residual[neighbours].sum(0) / (len(neighbours) + PRIOR)
    return items
