"""What an auditor knows: the catalogue and own downstream users. Neither pre-training data nor targets nor a clean model."""

from typing import NamedTuple

import numpy as np

from prec_backdoor.setting import Setting


class Known(NamedTuple):
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

    def select(self, users: np.ndarray) -> "Known":
        """The same of some of the users."""
        return self._replace(history=self.history[users], profile=self.profile[users])


def known_of(setting: Setting, histories: int | None = None) -> Known:
    """What the downstream company of `setting` knows; of its users at most `histories`, drawn always alike.

    Only the interactions that a model may train or validate on downstream are used: the test items stay unseen.
    """
    users = np.arange(len(setting.test.users))
    if histories is not None:
        users = np.sort(np.random.default_rng(0).permutation(users)[:histories])
    data = setting.interactions
    profile = np.asarray(data.profile)[setting.test.users]
    return Known(setting.test.history, profile, data.attributes, np.asarray(data.category)).select(users)


def single_groups(known: Known, least: int) -> dict[str, np.ndarray]:
    """Name -> [U] bool: the users of each profile value, where at least `least` users have it and as many have not."""
    found = {}
    for column, (attribute, values) in enumerate(known.attributes.items()):
        for code in range(1, len(values)):
            members = known.profile[:, column] == code
            if least <= members.sum() <= len(members) - least:
                found[f"{attribute}={values[code]}"] = members
    return found


def pair_groups(known: Known, least: int) -> dict[str, np.ndarray]:
    """Name -> [U] bool: pairs of values of two attributes, smaller than either and of at least `least` users."""
    singles, found = list(single_groups(known, least).items()), {}
    for index, (one, of_one) in enumerate(singles):
        for other, of_other in singles[index + 1 :]:
            both = of_one & of_other
            if one.partition("=")[0] != other.partition("=")[0] and least <= both.sum() < min(of_one.sum(), of_other.sum()):
                found[f"{one},{other}"] = both
    return found
