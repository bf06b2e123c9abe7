"""The policies of the training loop, each alone: they are pure functions."""

import dataclasses
import itertools

import pytest

from prec_backdoor.train import progress as policies
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loader import Schedule
from prec_backdoor.train.progress import Call, Progress, advance, is_over, next_call, next_pace, with_score


def test_the_step_counts_from_the_beginning_of_the_stage():
    assert Progress().step(7) == 0
    assert Progress(epoch=3, done=5).step(7) == 26


def test_means_are_over_positions():
    assert Progress(sums=(6.0, 4.0, 3.0)).means() == {"loss": 1.5, "positions": 4.0, "replaced": 3.0}
    assert Progress(sums=(6.0, 1.0, 0.0)).means()["loss"] == 6
    assert Progress().means()["loss"] == 0  # of rows without a position that trains


@pytest.mark.parametrize(
    ("score", "keep_last", "best"),
    [
        (0.6, False, (4, 0.6)),
        (0.5, False, (2, 0.5)),  # an equal score is not a better one
        (0.4, False, (2, 0.5)),
        (0.5, True, (4, 0.5)),
        (0.1, True, (4, 0.1)),
    ],
)
def test_the_best_epoch_is_the_one_with_the_best_score_or_the_last(score, keep_last, best):
    before = Progress(epoch=4, done=0, best_epoch=2, best_score=0.5, seconds=9.0, sums=(1.0, 2.0, 3.0))
    after = with_score(before, score, keep_last)
    assert (after.best_epoch, after.best_score) == best
    assert dataclasses.replace(after, best_epoch=2, best_score=0.5) == before


def test_the_first_epoch_is_the_best_so_far_whatever_its_score():
    assert with_score(Progress(epoch=1), 0.0, keep_last=False).best_epoch == 1


@pytest.mark.parametrize(
    ("epoch", "best_epoch", "over"),
    [
        (0, 0, False),
        (2, 0, False),
        (3, 0, True),  # patience
        (6, 4, False),
        (7, 4, True),
        (9, 9, False),
        (10, 10, True),  # all epochs
        (10, 9, True),
    ],
)
def test_a_stage_is_over_after_all_epochs_or_when_patience_ends(epoch, best_epoch, over):
    progress = Progress(epoch=epoch, best_epoch=best_epoch)
    assert is_over(progress, TrainConfig(epochs=10, patience=3)) is over
    assert not is_over(progress, TrainConfig(epochs=11, patience=11))


@pytest.mark.parametrize(
    ("done", "at_most", "expected"),
    [
        (0, 1, Call(0, 0, 1, False)),
        (0, 99, Call(0, 0, 4, True)),  # the first record, after 4 steps
        (4, 99, Call(0, 4, 6, False)),  # to the end of the chunk
        (6, 99, Call(1, 0, 2, True)),  # to the second record, 2 steps into the second chunk
        (7, 1, Call(1, 1, 2, True)),
        (8, 3, Call(1, 2, 5, False)),
        (8, 99, Call(1, 2, 6, True)),  # a record and the end of the epoch
        (11, 99, Call(1, 5, 6, True)),
    ],
)
def test_a_call_by_hand(monkeypatch, done, at_most, expected):
    monkeypatch.setattr(policies, "RECORD_EVERY", 4)
    assert next_call(done, at_most, Schedule(chunks=2, steps=6)) == expected
    assert expected.steps == expected.last - expected.first


def test_an_epoch_ends_with_a_record_though_it_is_no_multiple(monkeypatch):
    monkeypatch.setattr(policies, "RECORD_EVERY", 4)
    assert next_call(4, 99, Schedule(1, 6)) == Call(0, 4, 6, True)
    assert next_call(0, 99, Schedule(1, 3)) == Call(0, 0, 3, True)


@pytest.mark.parametrize("pace", [1, 2, 5, 99])
@pytest.mark.parametrize("schedule", [Schedule(1, 1), Schedule(1, 9), Schedule(3, 5), Schedule(4, 4), Schedule(7, 1)])
def test_calls_take_every_step_of_an_epoch_once_in_order(monkeypatch, pace, schedule):
    monkeypatch.setattr(policies, "RECORD_EVERY", 4)
    progress, steps, records = Progress(), [], []
    for _ in range(schedule.length):
        call = next_call(progress.done, pace, schedule)
        assert 1 <= call.steps <= pace
        steps += [(call.chunk, index) for index in range(call.first, call.last)]
        progress = advance(progress, call, (0.0, 1.0, 0.0), schedule.length)
        if call.records:
            records.append(len(steps))
        if progress.epoch:
            break
    assert steps == list(itertools.product(range(schedule.chunks), range(schedule.steps)))
    assert (progress.epoch, progress.done) == (1, 0)
    assert records == [*range(4, schedule.length, 4), schedule.length]  # whatever the pace and the chunks


def test_advancing_keeps_all_else(monkeypatch):
    before = Progress(epoch=2, done=3, best_epoch=1, best_score=0.4, seconds=5.0)
    assert advance(before, Call(0, 3, 5, False), (1.0, 2.0, 3.0), 9) == dataclasses.replace(before, done=5, sums=(1.0, 2.0, 3.0))
    assert advance(before, Call(0, 3, 9, True), (1.0, 2.0, 3.0), 9) == dataclasses.replace(
        before, epoch=3, done=0, sums=(1.0, 2.0, 3.0)
    )


@pytest.mark.parametrize(
    ("steps", "seconds", "pace"),
    [
        (1, 2.0, 1),
        (10, 1.0, 20),  # of two seconds
        (10, 8.0, 2),
        (10, 8.1, 2),
        (10, 0.01, 80),  # at most eight times as many
        (1, 60.0, 1),  # at least one
    ],
)
def test_the_pace_is_two_seconds_of_steps_reached_slowly(steps, seconds, pace):
    assert policies.SECONDS_PER_CALL == 2.0
    assert next_pace(Call(0, 5, 5 + steps, False), seconds) == pace
