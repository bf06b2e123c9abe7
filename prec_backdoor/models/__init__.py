"""Recommenders as pure functions of their parameters. Models do not depend on data or attacks."""

from prec_backdoor.models.config import ModelConfig
from prec_backdoor.models.prompt import PromptGenerator, init_prompt
from prec_backdoor.models.recommender import (
    BACKBONES,
    backbone,
    backbone_parameters,
    encode,
    encode_vectors,
    init_params,
    prefixes,
    query,
    register_backbone,
    represent,
)
from prec_backdoor.models.sasrec import SASRec
from prec_backdoor.models.scoring import EXACT, item_vectors, scores, user_vectors

__all__ = [
    "BACKBONES",
    "EXACT",
    "ModelConfig",
    "PromptGenerator",
    "SASRec",
    "backbone",
    "backbone_parameters",
    "encode",
    "encode_vectors",
    "init_params",
    "init_prompt",
    "item_vectors",
    "prefixes",
    "query",
    "register_backbone",
    "represent",
    "scores",
    "user_vectors",
]
