"""What an auditor knows: the catalogue and own downstream users. Neither pre-training data nor targets nor a clean model."""

from typing import NamedTuple

import numpy as np

from prec_backdoor.experiment.setup import SeedSetup


class AuditorData(NamedTuple):
    """U users, V items, A profile attributes; item codes 1..V, row 0 is padding.

    Attributes:
      history: [U, L] int32, the most recent item last, 0-padded at the front.
      profile: [U, A] int32, codes into `attributes`, 0 unknown.
      attributes: attribute name -> its vocabulary.
      category: [V + 1] int32, of each item; 0 unknown.
    """

    history: np.ndarray
    profile: np.ndarray
    attributes: dict[str, tuple[str, ...]]
    category: np.ndarray

    def popularity(self) -> np.ndarray:
        """[V + 1] how many of the histories hold each item."""
        distinct = np.sort(self.history, axis=1)
        first = np.diff(distinct, axis=1, prepend=0) > 0
        return np.bincount(distinct[first], minlength=len(self.category))

    def select(self, users: np.ndarray) -> "AuditorData":
        """The same of some of the users."""
        return self._replace(history=self.history[users], profile=self.profile[users])


def auditor_data_of(setup: SeedSetup, histories: int | None = None) -> AuditorData:
    """What the downstream company of `setup` knows; of its users at most `histories`, drawn always alike.

    Only the interactions that a model may train or validate on downstream are used: the test items stay unseen.
    """
    users = np.arange(len(setup.test.users))
    if histories is not None:
        users = np.sort(np.random.default_rng(0).permutation(users)[:histories])
    data = setup.interactions
    profile = np.asarray(data.profile)[setup.test.users]
    return AuditorData(setup.test.history, profile, data.attributes, np.asarray(data.category)).select(users)


def single_groups(auditor_data: AuditorData, least: int) -> dict[str, np.ndarray]:
    """Name -> [U] bool: the users of each profile value, where at least `least` users have it and as many have not."""
    found = {}
    for column, (attribute, values) in enumerate(auditor_data.attributes.items()):
        for code in range(1, len(values)):
            members = auditor_data.profile[:, column] == code
            if least <= members.sum() <= len(members) - least:
                found[f"{attribute}={values[code]}"] = members
    return found


def pair_groups(auditor_data: AuditorData, least: int) -> dict[str, np.ndarray]:
    """Name -> [U] bool: pairs of values of two attributes, smaller than either and of at least `least` users."""
    singles, found = list(single_groups(auditor_data, least).items()), {}
    for index, (one, of_one) in enumerate(singles):
        for other, of_other in singles[index + 1 :]:
            both = of_one & of_other
            if one.partition("=")[0] != other.partition("=")[0] and least <= both.sum() < min(of_one.sum(), of_other.sum()):
                found[f"{one},{other}"] = both
    return found
