"""Evaluation: exact ranks, accuracy, exposure, lift, baselines, intervals."""

from prec_backdoor.evaluation.baselines import popularity_ranks
from prec_backdoor.evaluation.metrics import accuracy, cutoffs, exposure, hit_rate, lift, unseen
from prec_backdoor.evaluation.ranking import rank_items, ranks
from prec_backdoor.evaluation.statistics import bootstrap_interval
from prec_backdoor.evaluation.user_vectors import mean_user_vector, vectors_of_users

__all__ = [
    "accuracy",
    "bootstrap_interval",
    "cutoffs",
    "exposure",
    "hit_rate",
    "lift",
    "mean_user_vector",
    "popularity_ranks",
    "rank_items",
    "ranks",
    "unseen",
    "vectors_of_users",
]
