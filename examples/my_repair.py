"""Template: a repair. The vectors of suspects are replaced by the catalogue's mean vector before fine-tuning.

    python -m launch.repair --plugin=examples/my_repair.py --repair=reset --dataset=ml-100k --checkpoint=runs/bra/pretrain \
      --audit=runs/audit --workdir=runs/reset
"""

import numpy as np

from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.extend import register_repair
from prec_backdoor.train.stage import RunOptions, StageRun


def reset(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Returns the stage to run.

    Args:
      setup: the downstream company's data; a repair must not use `setup.targets` or the pre-training data.
      suspects: [N] int32 item codes.
      options: for a repair that runs a stage of its own before the last one.
    """
    del options
    items = np.array(start.params["items"])
    items[suspects] = np.delete(items[1:], suspects - 1, axis=0).mean(0)
    return stages.finetune(setup, start._replace(params=start.params | {"items": items}), "repair")


register_repair("reset", reset)
