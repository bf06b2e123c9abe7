import numpy as np
from toys import lively_params, tiny_model

from prec_backdoor.evaluation.top_items import top_items
from prec_backdoor.models import item_vectors, represent, scores

MODEL = tiny_model(num_items=30, max_length=4)


def test_all_of_a_users_own_items_are_left_out_and_the_latest_are_what_the_model_sees():
    """Of users with fewer and with more items than the model's histories have; the last one has all of them but one."""
    rng, params = np.random.default_rng(0), lively_params(MODEL)
    histories = [1 + rng.permutation(30)[:length] for length in (1, 3, 4, 9, 29)]
    for number in (5, 40):
        ((items, found),) = top_items(params, MODEL, histories, number)
        assert items.shape == found.shape == (5, min(number, 30))
        for own, listed, values in zip(histories, items, found, strict=True):
            left = np.setdiff1d(np.arange(1, 31), own)
            seen = np.pad(own[-4:], (max(4 - len(own), 0), 0))[None]
            expected = np.asarray(scores("bd,vd->bv", represent(params, MODEL, seen, None), item_vectors(params, MODEL)))[0]
            best = left[np.argsort(-expected[left], kind="stable")][:number]
            np.testing.assert_array_equal(listed[: len(best)], best)
            np.testing.assert_allclose(values[: len(best)], expected[best], rtol=1e-4, atol=1e-5)
            assert not listed[len(best) :].any()


def test_padding_does_not_count():
    params, histories = lively_params(MODEL), np.array([[0, 0, 7, 2], [0, 5, 3, 1]], np.int32)
    ((padded, _),) = top_items(params, MODEL, histories, 6)
    ((whole, _),) = top_items(params, MODEL, [row[row > 0] for row in histories], 6)
    np.testing.assert_array_equal(padded, whole)
