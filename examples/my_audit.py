"""Template: an audit. An item stands out if more users have it among their first 50 than its popularity explains.

python -m launch.audit --plugin=examples/my_audit.py --dataset=ml-100k --checkpoint=runs/bra/pretrain --workdir=runs/audit
"""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.registry import ScoreMoments
from prec_backdoor.audit.robust import residual
from prec_backdoor.extend import register_audit


def first_50(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] robust z-score given log popularity, the highest over all views of the model (`ScoreMoments` lists what there is)."""
    scores = [residual(np.sqrt(view.top_share[1:]), log_popularity(view)) for view in views.values()]
    return np.max(scores, axis=0)


register_audit("first_50", first_50)  # its scores are calibrated, combined and shown as those of the others
