"""What an auditor has: the catalogue and its own downstream users, but no pre-training data, targets or clean model."""

from typing import NamedTuple

import numpy as np

from prec_backdoor.data.align import codes_in, profiles_in
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.experiment.setup import SeedSetup


class AuditorData(NamedTuple):
    """Data of U users and V items, with A profile attributes; item codes are 1..V, row 0 is padding.

    Attributes:
      history: [U, L] int32, the most recent item last, 0-padded at the front.
      profile: [U, A] int32, codes into `attributes`; 0 is unknown.
      attributes: attribute name -> its vocabulary.
      category: [V + 1] int32, of each item; 0 is unknown.
    """

    history: np.ndarray
    profile: np.ndarray
    attributes: dict[str, tuple[str, ...]]
    category: np.ndarray

    def popularity(self) -> np.ndarray:
        """[V + 1] number of histories that contain each item."""
        ordered = np.sort(self.history, axis=1)
        first = np.diff(ordered, axis=1, prepend=0) > 0
        return np.bincount(ordered[first], minlength=len(self.category))

    def select(self, users: np.ndarray) -> "AuditorData":
        """The data of some of the users."""
        return self._replace(history=self.history[users], profile=self.profile[users])


def auditor_data_of(setup: SeedSetup, histories: int | None = None) -> AuditorData:
    """The data of the downstream company of `setup`, of at most `histories` users; the same call always draws the same users.

    The histories are what the model sees, and hold only interactions on which a downstream model may train or validate; test
    items are left out.
    """
    users = np.arange(len(setup.test.users))
    if histories is not None:
        users = np.sort(np.random.default_rng(0).permutation(users)[:histories])
    data, history = setup.interactions, setup.test.history[:, -setup.model.max_length :]
    profile = np.asarray(data.profile)[setup.test.users]
    return AuditorData(history, profile, data.attributes, np.asarray(data.category)).select(users)


def translated(auditor_data: AuditorData, item_ids: np.ndarray, interactions: Interactions) -> AuditorData:
    """The same users in the codes of `interactions`: items and profile values by their raw ids; those that it lacks are left out.

    Args:
      item_ids: [V + 1] raw ids of the items of `auditor_data`.
    """
    history = codes_in(interactions.item_ids.tolist(), item_ids.tolist())[auditor_data.history]
    order = np.argsort(history > 0, axis=1, kind="stable")  # what is left out becomes padding, which is in front
    profile = profiles_in(interactions.attributes, auditor_data.profile, auditor_data.attributes)
    category = np.asarray(interactions.category)
    return AuditorData(np.take_along_axis(history, order, axis=1), profile, interactions.attributes, category)


def single_groups(auditor_data: AuditorData, minimum: int) -> dict[str, np.ndarray]:
    """Name -> [U] bool members of each profile value that at least `minimum` users have and at least `minimum` do not have."""
    groups = {}
    for column, (attribute, values) in enumerate(auditor_data.attributes.items()):
        for code in range(1, len(values)):
            members = auditor_data.profile[:, column] == code
            if minimum <= members.sum() <= len(members) - minimum:
                groups[f"{attribute}={values[code]}"] = members
    return groups


def pair_groups(auditor_data: AuditorData, minimum: int) -> dict[str, np.ndarray]:
    """Name -> [U] bool members of each pair of values of two attributes, if at least `minimum` and fewer than of either value."""
    singles, groups = list(single_groups(auditor_data, minimum).items()), {}
    for index, (one, of_one) in enumerate(singles):
        for other, of_other in singles[index + 1 :]:
            both = of_one & of_other
            if one.partition("=")[0] != other.partition("=")[0] and minimum <= both.sum() < min(of_one.sum(), of_other.sum()):
                groups[f"{one},{other}"] = both
    return groups
