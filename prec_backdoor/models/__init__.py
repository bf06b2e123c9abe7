"""Recommenders: pure functions of parameters; models know nothing of data or attacks."""

from prec_backdoor.models.prompt import PromptGenerator, init_prompt
from prec_backdoor.models.recommender import BACKBONES, backbone, encode, init_params, represent
from prec_backdoor.models.sasrec import ModelConfig, SASRec

__all__ = [
    "BACKBONES",
    "ModelConfig",
    "PromptGenerator",
    "SASRec",
    "backbone",
    "encode",
    "init_params",
    "init_prompt",
    "represent",
]
