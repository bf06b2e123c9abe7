"""Recommenders as pure functions of their parameters. Models do not depend on data or attacks."""

from prec_backdoor.models.config import ModelConfig
from prec_backdoor.models.prompt import PromptGenerator, init_prompt
from prec_backdoor.models.recommender import BACKBONES, backbone, encode, init_params, register_backbone, represent
from prec_backdoor.models.sasrec import SASRec
from prec_backdoor.models.scoring import EXACT, scores

__all__ = [
    "BACKBONES",
    "EXACT",
    "ModelConfig",
    "PromptGenerator",
    "SASRec",
    "backbone",
    "encode",
    "init_params",
    "init_prompt",
    "register_backbone",
    "represent",
    "scores",
]
