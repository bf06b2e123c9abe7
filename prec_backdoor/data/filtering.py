"""k-core filtering."""

import numpy as np

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError


def k_core(interactions: Interactions, k: int) -> Interactions:
    """Returns the dataset without users and items of fewer than k interactions, counted again after each removal.

    A dataset whose split is given is returned as it is.

    Raises:
      UserError: nothing survives.
    """
    if interactions.split is not None:
        return interactions
    users = np.repeat(np.arange(interactions.num_users, dtype=np.int32), interactions.lengths())
    items = np.asarray(interactions.items)
    keep = np.ones(len(items), bool)
    while True:
        enough_users = np.bincount(users[keep], minlength=interactions.num_users) >= k
        enough_items = np.bincount(items[keep], minlength=interactions.num_items + 1) >= k
        survivors = keep & enough_users[users] & enough_items[items]
        if survivors.sum() == keep.sum():
            break
        keep = survivors
    if not keep.any():
        raise UserError(f"dataset {interactions.name}: no user and no item has {k} interactions; lower --k_core")
    return interactions if keep.all() else interactions.select(keep)
