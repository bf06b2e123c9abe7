"""Training: losses, the step, stages (prec_backdoor.train.stage), and the wrappers for several devices."""

from prec_backdoor.train import parallel
from prec_backdoor.train.step import TrainConfig, TrainState, TrainStep, row_keys, train_step

__all__ = ["TrainConfig", "TrainState", "TrainStep", "parallel", "row_keys", "train_step"]
