import jax
import jax.numpy as jnp
import numpy as np
from toys import random_interactions, toy_spec, whole_batch

from prec_backdoor.attacks import chain, clean, replace_in_group

INTERACTIONS = random_interactions(users=12, num_items=9, lengths=(2, 6))
BATCH = whole_batch(INTERACTIONS, max_length=6, in_group=np.ones(12, bool))
SPEC = toy_spec(INTERACTIONS, [1, 2, 3], 0.5)


def test_a_chain_applies_in_order(key):
    def plus(number):
        return lambda key, batch, spec: batch._replace(label=batch.label * 10 + number)

    found = chain(plus(1), plus(2), plus(3))(key, BATCH, SPEC)
    np.testing.assert_array_equal(found.label, BATCH.label * 1000 + 123)


def test_each_link_has_a_key_of_its_own(key):
    used = []

    def note(key, batch, spec):
        used.append(tuple(jax.random.key_data(key).tolist()))
        return batch

    chain(note, note, note)(key, BATCH, SPEC)
    assert len(set(used)) == 3


def test_a_chain_is_itself_a_poison(key):
    # Two independent passes at rate 1/2 leave a quarter alone; passes that shared a key would leave a half.
    twice = jax.jit(chain(clean, chain(replace_in_group, replace_in_group)))
    before = jnp.where(BATCH.label > 0, 9, 0)
    labels = jax.vmap(lambda key: twice(key, BATCH._replace(label=before), SPEC).label)(jax.random.split(key, 500))
    supervised = np.asarray(before > 0)
    kept = np.asarray(labels == 9)[:, supervised]
    assert abs(kept.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    assert (np.asarray(labels)[:, ~supervised] == 0).all()
