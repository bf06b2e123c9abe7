"""Re-estimation: the vectors of suspects are thrown away and made anew from what is known of them downstream.

A planted item is reached through its vector alone, whatever the encoder has learnt: without it the backdoor leads nowhere.
"""

import numpy as np

from prec_backdoor import pipeline
from prec_backdoor.audit.known import Known, known_of
from prec_backdoor.pipeline import Source
from prec_backdoor.setting import Setting
from prec_backdoor.train.stage import StageResult

RIDGE = 1.0
HALF = 10.0  # neighbours that count as much as what category and popularity foretell


def reestimate(setting: Setting, source: Source, suspects: np.ndarray, **how) -> StageResult:
    """Makes the rows of `suspects` anew, then fine-tunes."""
    params = source.params | {"items": reestimated(source.params["items"], suspects, known_of(setting))}
    return pipeline.finetune(setting, source._replace(params=params), "repair", **how)


def reestimated(items: np.ndarray, suspects: np.ndarray, known: Known) -> np.ndarray:
    """[V + 1, D] `items` with the rows of `suspects` [N] as those of other items lead to expect.

    That is a ridge regression of the others' vectors on category and log popularity with the auditor's users, plus how the
    items in the same histories (not suspects themselves) deviate from it, a mean shrunk towards none where these are few.
    """
    items = np.array(items)
    trusted = np.setdiff1d(np.arange(1, len(items)), suspects)
    popularity = np.log1p(known.popularity())
    classes = np.eye(int(known.category.max()) + 1)[known.category]
    features = np.concatenate([classes, np.stack([popularity, popularity**2], 1)], axis=1)
    design = features[trusted]
    gram = design.T @ design + RIDGE * np.eye(design.shape[1])
    expected = features @ np.linalg.solve(gram, design.T @ items[trusted])
    deviation = items - expected
    for suspect in suspects:
        beside = known.history[(known.history == suspect).any(1)].ravel()
        beside = beside[(beside > 0) & ~np.isin(beside, suspects)]
        items[suspect] = expected[suspect] + deviation[beside].sum(0) / (len(beside) + HALF)
    return items
