"""The algebra from the lemmas to the theorems: it passes as stated, and fails where a coefficient is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import sympy as sp

from fedconv.analysis.proofs import algebra as symbolic
from fedconv.analysis.proofs.algebra import (
    LAYERS,
    PROVED,
    check,
    definition_steps,
    layers,
    premise_steps,
    proved,
    statement_steps,
)
from fedconv.analysis.proofs.algebra import drift as symbolic_drift
from fedconv.analysis.proofs.algebra import fedalt as symbolic_fedalt
from fedconv.analysis.proofs.algebra import fedsim as symbolic_fedsim
from fedconv.analysis.proofs.algebra import shared as symbolic_lemmas
from fedconv.analysis.proofs.algebra.inequalities import (
    Lemma,
    all_shown,
    derive,
    instance,
    nonnegative,
    premise,
    term,
    use,
    zero,
)
from fedconv.analysis.theorems import FA, FS, FS_STAR, THEOREMS, Theorem
from fedconv.analysis.theorems.base import (
    S_1,
    S_2,
    C,
    K_u,
    K_v,
    c,
    chi,
    delta,
    eps_u,
    eta,
    m,
    n,
    p,
    rho,
    rhs,
    sigma_u,
    symbol,
    tau_u,
    weight_v,
)  # fmt: skip
from fedconv.cli import main
from fedconv.problems.errors import InputError


def failing(theorem: Theorem) -> list[str]:
    return [step.name for step in check(theorem) if not step.ok]


def changed(theorem: Theorem, target: sp.Symbol, change: Any) -> Theorem:
    """The theorem with one definition changed."""
    definitions = dict(theorem.definitions)
    definitions[target] = change(definitions[target])
    return dataclasses.replace(theorem, definitions=definitions)


@pytest.mark.parametrize("key", PROVED)
def test_the_lemmas_give_the_theorem(key: str) -> None:
    assert failing(THEOREMS[key]) == []
    assert proved(THEOREMS[key])


@pytest.mark.parametrize("key", PROVED)
def test_every_mutant_fails_at_the_symbol_that_it_changes(key: str) -> None:
    for mutant in THEOREMS[key].mutants:
        weakened, proof = THEOREMS[key].mutate(mutant), symbolic._proof(key)
        wrong = {step.name for step in definition_steps(weakened, proof) if not step.ok}
        assert wrong == {str(s) for s in mutant.definitions}, mutant.key
        assert any(not step.ok for step in statement_steps(weakened, proof)), mutant.key


def test_a_mutant_leaves_the_proof_as_it_is() -> None:
    found = layers(FA.mutate(FA.mutant("k_zero")))
    assert all(step.ok for layer in ("lemmas", "round") for step in found[layer])
    assert not proved(FA.mutate(FA.mutant("k_zero")))


@pytest.mark.parametrize("key", ["FA", "FS"])
def test_without_its_conditions_a_theorem_fails_at_the_premises(key: str) -> None:
    found = layers(THEOREMS[key].mutate(THEOREMS[key].mutant("no_conditions")))
    assert [step.name for step in found["premises"] if not step.ok] == [step.name for step in found["premises"]]
    wrong = [step.name for step in found["statement"] if not step.ok]
    assert wrong == ["statement: sum |h_k|^2", "statement: sum |g_k|^2"]


def sabotaged() -> Iterator[tuple[str, Theorem, str]]:
    yield "K_u", changed(FA, K_u, lambda e: 2 * e), "K_u"
    yield "K_v", changed(FA, K_v, lambda e: e - C * p * (1 - 1 / symbol("tau_v"))), "K_v"
    yield "S_1 too large is not what the proof gives either", changed(FA, S_1, lambda e: e + sigma_u**2), "S_1"
    yield "2 delta^2 in S_2", changed(FA, S_2, lambda e: e.subs(delta, delta * sp.sqrt(sp.Rational(1, 2)))), "S_2"
    yield "C", changed(FA, C, lambda e: e / 2), "C"
    yield "rho in eps_u", changed(FA, eps_u, lambda e: e.subs(rho, 0)), "eps_u"
    yield "chi in FS", changed(FS, symbol("K"), lambda e: e.subs(chi, 0)), "K"
    yield "weight", changed(FS, weight_v, lambda e: e / p), "weight_v"
    yield "gap", changed(FS_STAR, rhs, lambda e: e.subs(symbol("gap0"), symbol("gap0") / 2)), "rhs"
    yield "c", changed(FS_STAR, c, lambda e: e * n / m), "c"


@pytest.mark.parametrize(("theorem", "named"), [x[1:] for x in sabotaged()], ids=[x[0] for x in sabotaged()])
def test_one_wrong_coefficient_fails_and_is_named(theorem: Theorem, named: str) -> None:
    assert [step.name for step in layers(theorem)["definitions"] if not step.ok] == [named]
    assert not proved(theorem)


def parts(expression: sp.Expr) -> Iterator[sp.Expr]:
    """The expression with one of its summands, or of the summands of one of its factors, doubled."""
    for k, factor in enumerate(factors := list(sp.Mul.make_args(expression))):
        for summand in sp.Add.make_args(factor):
            yield sp.Mul(*factors[:k], factor + summand, *factors[k + 1 :])


@pytest.mark.parametrize("key", PROVED)
def test_each_summand_of_each_definition_matters(key: str) -> None:
    whole = THEOREMS[key]
    for target, formula in whole.definitions.items():
        for wrong in parts(formula):
            steps = definition_steps(changed(whole, target, lambda _, wrong=wrong: wrong), symbolic._proof(key))
            assert [step.name for step in steps if not step.ok] == [str(target)], wrong


@pytest.mark.parametrize("key", PROVED)
def test_each_condition_matters(key: str) -> None:
    whole = THEOREMS[key]
    for k, condition in enumerate(whole.conditions):
        for wrong in parts(condition.left):
            conditions = list(whole.conditions)
            conditions[k] = dataclasses.replace(condition, left=wrong)
            theorem = dataclasses.replace(whole, conditions=tuple(conditions))
            steps = premise_steps(theorem, symbolic._proof(key))
            assert sum(not step.ok for step in steps) == 1, wrong


def test_a_weaker_condition_fails() -> None:
    loose = tuple(dataclasses.replace(k, left=k.left / 2) for k in FA.conditions)
    assert any(name.startswith("dropped") for name in failing(dataclasses.replace(FA, conditions=loose)))


def test_a_limit_that_is_not_allowed_fails() -> None:
    free = tuple(dataclasses.replace(f, to_zero=sp.Integer(0)) if f.name == "theta" else f for f in FA.free)
    assert any(name.startswith("limit theta") for name in failing(dataclasses.replace(FA, free=free)))


def test_a_wrong_lemma_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """L8 with a part of its drift lost: its own step, the lemma that uses it, and the theorem's symbols fail."""
    right = symbolic_fedalt.inner_lemma

    def wrong(name: str, target: Any, block: Any, start: Any, sums: Any) -> Lemma:
        lemma = right(name, target, block, start, sums)
        return dataclasses.replace(lemma, right=lemma.right - block.drift / 4)

    monkeypatch.setattr(symbolic_fedalt, "inner_lemma", wrong)
    symbolic._proof.cache_clear()
    try:
        assert {"L8: identity", "L4", "K_u"} <= set(failing(FA))
    finally:
        monkeypatch.undo()
        symbolic._proof.cache_clear()
    assert failing(FA) == []


LEMMAS = [
    (symbolic_fedalt, False, "L1", "L1: identity"),
    (symbolic_fedalt, False, "L2 (u)", "L2 (u)"),
    (symbolic_fedalt, False, "L2: Young", "L2: Young: identity"),
    (symbolic_fedalt, False, "L3 (u)", "L3 (u)"),
    (symbolic_fedalt, False, "L3 (v): Young", "L3 (v): Young: identity"),
    (symbolic_fedalt, False, "L4", "L4"),
    (symbolic_fedalt, False, "L5", "L5"),
    (symbolic_fedalt, False, "L6", "L6: identity"),
    (symbolic_fedalt, False, "L9: mean", "L9: mean: identity"),
    (symbolic_fedalt, False, "L9: spread", "L9: spread: identity"),
    (symbolic_fedalt, False, "L10", "L10"),
    (symbolic_fedalt, True, "L10: Young", "L10: Young"),
    (symbolic_fedalt, True, "weights of the spread", "weights of the spread: identity"),
    (symbolic_fedsim, False, "L6, present", "L6, present: identity"),
    (symbolic_fedsim, False, "L11", "L11"),
    (symbolic_fedsim, True, "L11: Young", "L11: Young"),
    (symbolic_fedsim, True, "L2'", "L2'"),
    (symbolic_fedsim, True, "weights of the noise", "weights of the noise: identity"),
]


@pytest.mark.parametrize(("module", "sharp", "name", "step"), LEMMAS, ids=[f"{x[2]}{'*' * x[1]}" for x in LEMMAS])
def test_a_coefficient_changed_inside_the_proof_fails_at_that_lemma(
    monkeypatch: pytest.MonkeyPatch, module: Any, sharp: bool, name: str, step: str
) -> None:
    def wrong(own: str, statement: str, target: sp.Symbol, right: sp.Expr, **rest: Any) -> Lemma:
        if own == name:
            right = right + sp.Add.make_args(sp.expand(right))[0]
        return Lemma(own, statement, target, right, **rest)

    for place in (symbolic_fedalt, symbolic_fedsim, symbolic_lemmas, symbolic_drift):
        monkeypatch.setattr(place, "Lemma", wrong)
    assert step in [x.name for x in module.proof(sharp).lemmas if not x.ok]


def test_a_lemma_that_is_not_shown_before_its_use_is_named() -> None:
    x, y = term("x"), term("y")
    lemma = Lemma("mine", "x ≤ y", x, y)
    shown, used = derive(lemma, x, [dataclasses.replace(lemma, name="axiom", given=True)]), use(x, lemma, "here")[1]
    assert all_shown([*shown, used]).ok
    assert not all_shown([used, *shown]).ok
    assert all_shown([used]).statement == "not shown before its use: mine"
    assert all_shown([use(x, dataclasses.replace(lemma, given=True), "here")[1]]).ok


def test_an_instance_needs_an_identity_and_a_slack_that_is_not_negative() -> None:
    x, a, b = term("x"), symbol("a"), symbol("b")
    young = Lemma("Young", "xy ≤ (x² + y²)/2", x, (a**2 + b**2) / 2)
    assert instance(young, {x: a * b}, (a - b) ** 2 / 2).ok
    assert not instance(young, {x: a * b}, (a - b) ** 2).ok
    assert not instance(young, {}, (a**2 + b**2) / 2 - x).ok
    assert not instance(dataclasses.replace(young, equality=True), {x: a * b}, (a - b) ** 2 / 2).ok
    wrong = dataclasses.replace(young, right=(a**2 + b**2) / 4)
    assert not instance(wrong, {x: a * b}, (a**2 + b**2) / 4 - a * b).ok


@pytest.mark.parametrize(
    ("left", "ok"),
    [(2 * eta, True), (eta, False), (3 * eta, False), (sp.Integer(1), False), (2 * eta - 4, False)],
)
def test_what_is_dropped_needs_its_own_premise(left: sp.Expr, ok: bool) -> None:
    """rho (2η − 1) is nonpositive where 2η ≤ 1."""
    assert premise("dropped", "it", rho * (2 * eta - 1), {"mine": left}).ok == ok


def test_a_lemma_is_used_only_with_a_multiplier_that_is_not_negative() -> None:
    x, y = term("x"), term("y")
    lemma = Lemma("a", "x ≤ y", x, y)
    assert use(eta * x, lemma, "here")[1].ok
    assert use(eta * x, lemma, "here")[0] == eta * y
    assert not use((1 - eta) * x, lemma, "here")[1].ok
    assert not use(y, lemma, "here")[1].ok
    assert not use(x**2, lemma, "here")[1].ok
    assert use((1 - eta) * x, dataclasses.replace(lemma, equality=True), "here")[1].ok


def test_parts_that_do_not_compose_fail() -> None:
    x, y = term("x"), term("y")
    part = Lemma("part", "x ≤ y", x, y)
    assert all(s.ok for s in derive(Lemma("whole", "2x ≤ 2y", x, 2 * y, factor=sp.Integer(2)), 2 * x, [part]))
    assert not all(s.ok for s in derive(Lemma("whole", "2x ≤ y", x, y, factor=sp.Integer(2)), 2 * x, [part]))


@pytest.mark.parametrize(
    "expression",
    [
        eta * tau_u - eta, n - m, (eta - rho) ** 2, (n - m) / (m * (n - 1)), 1 / tau_u, 1 - 1 / tau_u,
        sp.Integer(0), (eta**2 - 1) / (eta - 1), (eta - 1) ** 2 * (n - m), (term("x") - 1) ** 2, c, 1 - p, sp.exp(eta),
        -1 / (-eta - 1),
    ],
)  # fmt: skip
def test_signs_that_are_plain(expression: sp.Expr) -> None:
    assert nonnegative(expression)


@pytest.mark.parametrize(
    "expression",
    [
        eta - rho, m - n, -eta, (eta - rho) ** 3, 1 - eta, 1 / (eta - 1), sp.Integer(-1), term("x"), -(eta**2), m - 2,
        tau_u - 2, (eta - 1) * (n - m), -((eta - rho) ** 2), sp.exp(eta) - 1, sp.sqrt(eta) - 1, sp.sin(eta),
        eta**2 - eta + 1, 1 / (n - n),
    ],
)  # fmt: skip
def test_signs_that_are_not_shown(expression: sp.Expr) -> None:
    assert not nonnegative(expression)


@pytest.mark.parametrize(
    "expression",
    [
        (1 + eta) ** 2 - 1 - 2 * eta - eta**2, p - m / n, c - (n - m) / (m * (n - 1)),
        1 / (1 + eta) - (1 - eta) / (1 - eta**2),
        sp.exp(eta * (2 + rho)) - sp.exp(2 * eta + eta * rho), sp.Integer(0),
    ],
)  # fmt: skip
def test_zero_is_an_identity_of_rational_functions(expression: sp.Expr) -> None:
    assert zero(expression)


@pytest.mark.parametrize(
    "expression",
    [
        eta - rho, sp.exp(eta) - 1 - eta, eta * sp.Rational(1, 10**12), sp.Integer(1), p - c, term("x") - term("y"),
        (eta - 1) * (eta - 2) * (eta - 3), 1 / (1 + eta) - 1 + eta, eta / (rho - rho), sp.exp(2 * eta) - sp.exp(eta),
    ],
)  # fmt: skip
def test_what_is_not_zero_everywhere_is_not_zero(expression: sp.Expr) -> None:
    assert not zero(expression)


def test_every_lemma_of_the_page_has_its_step() -> None:
    names = {step.name for step in check(FA)}
    wanted = {"L1: identity", "L3 (u)", "L4", "L5", "L6: identity", "L7", "L8: identity", "L9", "L10"}
    assert wanted | {"L2: sum, step", "L2: terms fall", "L2: coarse factor", "L2 (u)", "L2 (v)"} <= names


def test_an_unknown_theorem_is_refused() -> None:
    with pytest.raises(InputError, match="a symbolic proof is known of FA, FA\\*, FS, FS\\*; got the theorem other"):
        check(dataclasses.replace(FA, key="other"))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algebra", "FA"]) == 0
    assert "FA: all" in capsys.readouterr().out
    assert main(["algebra", "FA", "--mutant", "half_s1"]) == 1
    assert "FA:half_s1: 3 of" in capsys.readouterr().out
    assert main(["algebra", "FA", "--steps"]) == 0
    assert "L2: terms fall" in capsys.readouterr().out
    assert main(["algebra", "--mutant", "half_s1"]) == 2
    assert "--mutant needs one theorem; got 0" in capsys.readouterr().err
    assert main(["algebra", "FA", "FS", "--mutant", "half_s1"]) == 2
    assert "--mutant needs one theorem; got 2" in capsys.readouterr().err
    assert main(["algebra", "FA", "--mutant", "kept_full"]) == 2
    assert "theorem FA has the mutants gap1" in capsys.readouterr().err
    assert main(["algebra", "XX"]) == 2
    assert "theorems are FA, FA*, FS, FS*" in capsys.readouterr().err


def test_the_command_prints_the_layers_of_all_theorems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algebra"]) == 0
    out = capsys.readouterr().out
    assert all(f"{key}: all {len(check(THEOREMS[key]))} steps hold" in out for key in PROVED)
    assert all(layer in out for layer in LAYERS)
    assert "taken as given: A1, A2, A3, L7, martingale, participation" in out


def test_the_command_names_the_layer_and_the_step_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algebra", "FA*", "--mutant", "sampling_alpha", "--steps"]) == 1
    out = capsys.readouterr().out
    assert "  fails in definitions, Q: Q is what the proof gives" in out
    assert "L2: terms fall" in out
