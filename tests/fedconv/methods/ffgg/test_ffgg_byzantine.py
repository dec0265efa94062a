"""FFGG with Byzantine clients: against a slow reference, without attackers, and every defence against every attack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from fedconv.core.streams import Streams
from fedconv.methods.ffgg import reference
from fedconv.methods.ffgg.byzantine_rounds import orders
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Byzantine
from fedconv.methods.ffgg.robust.aggregators import AGGREGATORS
from fedconv.methods.ffgg.robust.attacks import ATTACKS
from fedconv.methods.ffgg.robust.preaggregation import PRE
from fedconv.methods.ffgg.robust.robustness import robustness
from fedconv.methods.ffgg.robust.threat import Aggregator, Attack, PreStep
from fedconv.methods.split import State
from fedconv.problems.envelopes.least_squares import LeastSquares, build_random


def experiment(n: int, method: FFGG, T: int = 6) -> FFGGExperiment:
    """FFGG on random least squares whose clients disagree."""
    problem = build_random(n=n, d_u=3, d_v=2, rows=5)
    rng = np.random.default_rng(1)
    u, v = rng.normal(size=problem.d_u), rng.normal(size=(n, problem.d_v))
    return FFGGExperiment(problem, method, State(torch.from_numpy(u), torch.from_numpy(v)), T, seed=5)


def blocks(trial: FFGGExperiment, replicates: Any = (0, 3)) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return trial.block(Streams(trial.seed), np.array(replicates, dtype=np.int64), "proof", "eager")


def shifted(messages: np.ndarray, f: int, sent: np.ndarray) -> np.ndarray:
    """The trimmed mean that drops f values a side of the honest messages and f copies of ``sent``."""
    ranked = np.sort(np.concatenate([messages, np.tile(sent, (f, 1))]), axis=0)
    return ranked[f : len(ranked) - f].mean(0)


@pytest.mark.parametrize("f", [0, 1, 2])
def test_byzantine_rounds_agree_with_the_reference(f: int) -> None:
    for attack, strength, sent in (
        ("sign_flip", 3.0, lambda x: -3.0 * x.mean(0)),
        ("ipm", 0.2, lambda x: -0.2 * x.mean(0)),
        ("zero", None, lambda x: np.zeros(3)),
        ("mimic", None, lambda x: x[1]),
        ("alie", 1.5, lambda x: x.mean(0) - 1.5 * x.std(0)),
    ):
        client = 1 if attack == "mimic" else None
        threat = Byzantine(f, attack=attack, aggregator="trimmed_mean", strength=strength, client=client)
        trial = experiment(6, FFGG(6, 0.3, byzantine=threat))
        got = blocks(trial)
        honest = trial.problem.restrict(range(6 - f))
        want = reference.byzantine(honest, trial.start, 0.3, trial.T, lambda x, sent=sent: shifted(x, f, sent(x)))
        assert set(got) == set(want)
        for key, values in want.items():
            size = max(np.abs(values).max(), want["F"].max())
            tolerance = 1e-9 if key == "smooth_ratio" else 1e-12
            assert np.abs(got[key] - values).max() <= tolerance * size, key


def test_mimic_settles_on_a_client_after_its_warm_up() -> None:
    """The honest messages of the first 3 rounds choose the client that is copied to the end."""
    f, seen, copied = 2, [], []

    def sent(x: np.ndarray) -> np.ndarray:
        if len(seen) < 3:
            seen.append(x)
            rows = np.concatenate(seen)
            z = np.linalg.svd(rows - rows.mean(0))[2][0]
            copied.append(int(np.argmax(np.abs(sum(seen) @ z))))
        return x[copied[-1]]

    trial = experiment(6, FFGG(6, 0.3, byzantine=Byzantine(f, attack="mimic", aggregator="trimmed_mean", warm_up=3)))
    honest = trial.problem.restrict(range(4))
    want = reference.byzantine(honest, trial.start, 0.3, trial.T, lambda x: shifted(x, f, sent(x)))
    np.testing.assert_allclose(blocks(trial)["w"], [want["w"]] * 2, rtol=1e-10, atol=1e-12)


def test_attackers_that_flip_their_own_gradients() -> None:
    """With the plain mean: the honest sum minus s times the gradients of the attackers' own data, each fresh."""
    threat = Byzantine(2, attack="own_sign_flip", aggregator="mean", strength=0.5)
    trial = experiment(6, FFGG(6, 0.3, byzantine=threat))
    w, everyone = trial.start.u, trial.problem.everyone()
    for at in torch.from_numpy(blocks(trial)["w"][0]):
        torch.testing.assert_close(at, w, rtol=1e-12, atol=1e-12)
        slopes = trial.problem.envelope_grad(w.expand(6, -1), everyone)
        w = w - 0.3 * (slopes[:4].sum(0) - 0.5 * slopes[4:].sum(0)) / 6


def test_flipped_labels_are_fine_tuned_honestly() -> None:
    threat = Byzantine(2, attack="label_flip", aggregator="mean")
    trial = experiment(6, FFGG(6, 0.3, byzantine=threat))
    got, problem = blocks(trial), trial.problem
    c = problem.c.numpy().copy()
    c[4:] *= -1
    everybody = replace(trial, problem=LeastSquares(A=problem.A.numpy(), B=problem.B.numpy(), c=c))
    plain = blocks(replace(everybody, algorithm=FFGG(6, 0.3)))
    np.testing.assert_allclose(got["w"], plain["w"], rtol=1e-12)
    assert got["F_gap"].min() > 0, "F and its minimum are the honest clients'"


def test_no_attackers_and_nothing_trimmed_is_plain_ffgg() -> None:
    plain = blocks(experiment(5, FFGG(5, 0.3)))
    for threat in (
        Byzantine(0, attack="omniscient", aggregator="trimmed_mean"),
        Byzantine(0, attack="zero", aggregator="mean"),
        Byzantine(0, attack="label_flip", aggregator="multi_krum"),
        Byzantine(0, attack="alie", aggregator="centred_clipping"),
        Byzantine(0, attack="mimic", aggregator="mean", pre="bucketing", bucket=5),
    ):
        got = blocks(experiment(5, FFGG(5, 0.3, byzantine=threat)))
        for key in ("w", "F_gap", "dist_sq", "smooth_ratio"):
            np.testing.assert_allclose(got[key], plain[key], rtol=1e-10, atol=1e-13, err_msg=key)


@pytest.mark.parametrize("attack", get_args(Attack))
@pytest.mark.parametrize("aggregator", get_args(Aggregator))
def test_every_defence_runs_against_every_attack_block_by_block(aggregator: Any, attack: Any) -> None:
    """Also after both pre-steps, and with errors within the proved κ where nothing is drawn at random."""
    for pre, bucket in (("none", None), ("nnm", None), ("bucketing", 2)):
        threat = Byzantine(1, attack=attack, aggregator=aggregator, pre=pre, bucket=bucket)
        if pre == "bucketing" and aggregator == "krum_without_itself":
            continue  # three groups are too few for it
        trial = experiment(6, FFGG(6, 0.2, byzantine=threat), T=2)
        assert trial.deterministic == (pre != "bucketing")
        together = blocks(trial, range(3))
        for part in ((0,), (1, 2)):
            for key, values in blocks(trial, part).items():
                assert np.array_equal(values, together[key][list(part)]), (key, pre)
        found = robustness(threat, 6)
        if not found.randomised and np.isfinite(found.kappa):
            mean_sq = together["grad_sq"][:, :-1]
            bound = found.kappa * together["spread"] + found.beta * mean_sq
            assert (together["aggregation_error_sq"] <= bound * (1 + 1e-9)).all(), pre


def test_bucketing_draws_uniform_orders_that_belong_to_replicate_and_round() -> None:
    streams = Streams(7)
    drawn = orders(streams, np.arange(6000), 3, 3)
    assert np.array_equal(np.sort(drawn, axis=1), np.tile(np.arange(3), (6000, 1)))
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert (abs(counts - 1000) <= 5 * np.sqrt(6000 / 6 * 5 / 6)).all()
    assert np.array_equal(orders(streams, np.array([4, 2]), 3, 3), drawn[[4, 2]])
    assert not np.array_equal(orders(streams, np.arange(6000), 4, 3), drawn)


def test_the_settings_name_every_registered_attack_and_aggregator() -> None:
    assert set(get_args(Attack)) == set(ATTACKS)
    assert set(get_args(Aggregator)) == set(AGGREGATORS)
    assert set(get_args(PreStep)) == set(PRE)
