"""Asynchronous arrivals: the fast schedule against an obvious one, and what every schedule keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedconv.core.streams import Cause, Streams
from fedconv.methods.ffgg.arrivals import Asynchrony
from fedconv.methods.ffgg.schedule import Schedule, arrivals
from fedconv.problems.compiled.xoshiro import below, uniform


@dataclass
class Job:
    """A job under way: its number, client, the iterate that it started at, and when it arrives."""

    number: int
    client: int
    start: int
    arrival: float


def obvious(how: Asynchrony, n: int, T: int, streams: Streams, replicate: int) -> list[tuple[int, int, int, float]]:
    """(client, issued_at, job, time) of each update: the first job to arrive among those that leave the others able
    to meet their deadlines."""
    one = np.array([replicate])
    who, long = (streams.states(Cause.ARRIVALS, one, part)[0] for part in (0, 1))
    now, pending = 0.0, []

    def begin(number: int, start: int, previous: int) -> None:
        client = {"random": lambda: int(below(who, n)), "cyclic": lambda: number % n, "per_client": lambda: previous}[
            how.assignment
        ]()
        scale = how.slow ** (client / max(n - 1, 1))
        if how.law == "adversarial":
            duration = 0.0 if client < n // 2 else np.inf
        elif how.law == "constant":
            duration = scale
        elif how.law == "uniform":
            duration = scale * 2.0 * uniform(long)
        else:
            duration = scale * uniform(long) ** (-1.0 / how.tail)
        pending.append(Job(number, client, start, now + duration))

    def others_can_wait(job: Job, k: int) -> bool:
        deadlines = sorted(other.start + how.tau_max for other in pending if other is not job)
        return all(deadline >= k + 1 + i for i, deadline in enumerate(deadlines))

    for number in range(how.jobs(n)):
        begin(number, 0, number)
    updates = []
    for k in range(T):
        allowed = [job for job in pending if others_can_wait(job, k)]
        job = min(allowed, key=lambda job: (job.arrival, job.number))
        now = max(now, job.arrival) if np.isfinite(job.arrival) else now
        updates.append((job.client, job.start, job.number, now))
        pending.remove(job)
        begin(how.jobs(n) + k, k + 1, job.client)
    return updates


@st.composite
def settings(draw: st.DrawFn) -> tuple[Asynchrony, int]:
    n = draw(st.integers(1, 6))
    law = draw(st.sampled_from(["constant", "uniform", "heavy_tailed", "adversarial"]))
    assignment = draw(st.sampled_from(["random", "cyclic", "per_client"]))
    tau_max = draw(st.integers(n - 1 if assignment == "per_client" else 0, 9))
    workers = None if assignment == "per_client" else draw(st.none() | st.integers(1, tau_max + 1))
    slow = 1.0 if law == "adversarial" else draw(st.sampled_from([1.0, 3.0, 50.0]))
    tail = draw(st.sampled_from([0.4, 1.5])) if law == "heavy_tailed" else None
    return Asynchrony(law, tau_max=tau_max, workers=workers, assignment=assignment, slow=slow, tail=tail), n


def at(schedule: Schedule, r: int) -> list[tuple[int, int, int, float]]:
    return list(
        zip(
            schedule.client[r].tolist(),
            schedule.issued_at[r].tolist(),
            schedule.job[r].tolist(),
            schedule.time[r].tolist(),
            strict=True,
        )
    )


@given(settings(), st.integers(1, 40), st.integers(0, 1000))
def test_the_fast_schedule_is_the_obvious_one(setting: tuple[Asynchrony, int], T: int, seed: int) -> None:
    how, n = setting
    streams = Streams(seed)
    got = arrivals(how, n, T, streams, np.array([0, 5]))
    for r, replicate in enumerate((0, 5)):
        want = obvious(how, n, T, streams, replicate)
        assert [row[:3] for row in at(got, r)] == [row[:3] for row in want]
        np.testing.assert_allclose(got.time[r], [row[3] for row in want], rtol=1e-14, atol=0)


@given(settings(), st.integers(1, 60), st.integers(0, 1000))
def test_what_every_schedule_keeps(setting: tuple[Asynchrony, int], T: int, seed: int) -> None:
    how, n = setting
    jobs = how.jobs(n)
    schedule = arrivals(how, n, T, Streams(seed), np.arange(3))
    ks = np.arange(T)
    assert (schedule.delay >= 0).all()
    assert (schedule.delay <= np.minimum(ks, how.tau_max)).all()
    assert ((schedule.client >= 0) & (schedule.client < n)).all()
    assert np.array_equal(schedule.issued_at, np.maximum(0, schedule.job - jobs + 1)), "one job starts at each iterate"
    assert (np.diff(schedule.time, axis=1) >= 0).all()
    for applied in schedule.job:
        assert len(set(applied.tolist())) == T, "each job is applied once"
        due = jobs + max(0, T - how.tau_max) - 1 if how.tau_max < T else 0
        assert set(range(due)) <= set(applied.tolist()), "every job that is due has been applied"
    if how.assignment == "cyclic":
        assert np.array_equal(schedule.client, schedule.job % n)
    if how.assignment == "per_client":
        for clients, starts in zip(schedule.client, schedule.issued_at, strict=True):
            for i in range(n):
                mine = np.flatnonzero(clients == i)
                assert starts[mine].tolist() == [0, *(mine[:-1] + 1)][: len(mine)], "one job after the other"


@given(settings(), st.integers(0, 1000))
def test_schedules_do_not_depend_on_blocks_or_horizon(setting: tuple[Asynchrony, int], seed: int) -> None:
    how, n = setting
    streams = Streams(seed)
    together = arrivals(how, n, 30, streams, np.arange(4))
    for r in range(4):
        assert at(arrivals(how, n, 12, streams, np.array([r])), 0) == at(together, r)[:12]


@given(st.integers(1, 5), st.integers(0, 1000))
def test_random_assignment_does_not_look_at_the_arrivals(n: int, seed: int) -> None:
    """Job j's client is the same whatever the law of the delays, τ_max and the number of workers."""
    clients: list[dict[int, int]] = []
    for how in (
        Asynchrony("constant", tau_max=0),
        Asynchrony("constant", tau_max=4),
        Asynchrony("heavy_tailed", tau_max=6, workers=5, tail=0.5, slow=20.0),
        Asynchrony("uniform", tau_max=9, workers=2),
        Asynchrony("adversarial", tau_max=7),
    ):
        schedule = arrivals(how, n, 40, Streams(seed), np.array([3]))
        clients.append(dict(zip(schedule.job[0].tolist(), schedule.client[0].tolist(), strict=True)))
    for other in clients[1:]:
        common = set(other) & set(clients[0])
        assert len(common) >= 30
        assert all(other[j] == clients[0][j] for j in common)


def test_random_assignment_is_uniform() -> None:
    """2000 replicates of one early job: each of 4 clients within 5 standard deviations of a quarter."""
    how = Asynchrony("adversarial", tau_max=5)
    schedule = arrivals(how, 4, 12, Streams(0), np.arange(2000))
    for job in range(4):
        rows, columns = np.nonzero(schedule.job == job)
        assert len(rows) == 2000
        counts = np.bincount(schedule.client[rows, columns], minlength=4)
        assert (abs(counts - 500) <= 5 * np.sqrt(2000 * 0.25 * 0.75)).all()


@given(settings(), st.integers(1, 40), st.integers(0, 100))
def test_the_covering_window_is_the_smallest(setting: tuple[Asynchrony, int], T: int, seed: int) -> None:
    how, n = setting
    schedule = arrivals(how, n, T, Streams(seed), np.array([0, 1]))
    for clients, W in zip(schedule.client, schedule.covering_window(n), strict=True):

        def covers(width: int, clients: np.ndarray = clients) -> bool:
            return all(len(set(clients[a : a + width].tolist())) == n for a in range(T - width + 1))

        assert covers(W)
        assert W == 1 or not covers(W - 1)
        assert (W == T + 1) == (len(set(clients.tolist())) < n)
        if how.assignment == "per_client" and how.tau_max < T:
            assert how.tau_max + 1 >= W


@pytest.mark.parametrize("law", ["constant", "uniform", "heavy_tailed"])
def test_mean_delay_and_full_house(law: str) -> None:
    """With C jobs under way the mean delay tends to C − 1; with τ_max + 1 every job is exactly τ_max late."""
    tail = 1.5 if law == "heavy_tailed" else None
    part = arrivals(Asynchrony(law, tau_max=8, workers=4, tail=tail), 3, 4000, Streams(1), np.array([0]))
    assert part.delay.mean() == pytest.approx(3.0, abs=0.02)
    assert law == "constant" or len(set(part.delay[0, 10:].tolist())) == 9
    full = arrivals(Asynchrony(law, tau_max=8, workers=9, tail=tail), 3, 50, Streams(1), np.array([0]))
    assert np.array_equal(full.delay[0], np.minimum(np.arange(50), 8))


def test_adversarial_delays_are_extreme() -> None:
    """Clients in turn, half of them slow: fast jobs are applied at once, slow ones exactly τ_max late."""
    schedule = arrivals(Asynchrony("adversarial", tau_max=6, assignment="cyclic"), 2, 60, Streams(0), np.array([0]))
    late = schedule.delay[0, 12:]
    slow = schedule.client[0, 12:] == 1
    assert set(late[slow].tolist()) == {6}
    assert set(late[~slow].tolist()) == {0}


def test_slow_clients_are_applied_less_often_where_each_has_one_job() -> None:
    """Durations 1 and 10: the fast client's gradients are applied ten times as often."""
    how = Asynchrony("constant", tau_max=50, assignment="per_client", slow=10.0)
    schedule = arrivals(how, 2, 1100, Streams(0), np.array([0]))
    assert np.bincount(schedule.client[0]).tolist() == [1000, 100]
    assert schedule.time[0, -1] == pytest.approx(1000.0)
