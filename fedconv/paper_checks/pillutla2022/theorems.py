"""The convergence theorems of FedAlt and FedSim and the lemmas that they are composed of, as claims."""

from __future__ import annotations

from fedconv.analysis.claims.claim import Claim
from fedconv.paper_checks.pillutla2022.sampling import gap_of_the_real_iterate, sampling_term
from fedconv.paper_checks.shared.on_proofs import Algebra, FalseLemmas, OnStates
from fedconv.paper_checks.shared.on_runs import OnRuns, WeakenedVersions
from fedconv.paper_checks.shared.units import Direct, parts

PAPER = "pillutla2022"
RATE = "the rate up to absolute constants: the paper; the constants: theory page, section {}, derived here"
DERIVED = "theory page, section {}, derived here"

_BOUND = (
    "After $T$ rounds the weighted mean of the squared partial gradients, $X_t/L_u$ of the shared part and $Y_t/L_v$ of"
    " the personal parts with weight $p = m/n$, is at most $\\frac{2\\Delta F_0}{\\eta T} + \\eta S_1 + \\eta^2 S_2$"
)


def _theorem(name: str, key: str, title: str, statement: str, source: str, figure: str) -> Claim:
    return Claim(
        f"{PAPER}/{name}",
        title,
        statement,
        source,
        "theorem",
        parts(OnRuns(PAPER, (key,)), WeakenedVersions((key,)), Algebra((key,))),
        (key,),
        figure,
    )


THEOREMS = (
    _theorem(
        "theorem-FA", "FA", "FedAlt converges, with explicit constants",
        f"{_BOUND}; for FedAlt $X_t$ is measured at the virtual full participation, where every client has taken its"
        " personal steps. Clients that stay away cost the terms with $\\chi^2(1-p)^2/\\alpha$.",
        RATE.format(2), "bound-measured",
    ),
    _theorem(
        "theorem-FS", "FS", "FedSim converges, with explicit constants",
        f"{_BOUND}; for FedSim $X_t$ is measured at the state itself. That both blocks step at once costs the terms"
        " with $\\chi^2p^2/\\alpha$ and the factor $1 + \\chi^2$ in the drift.",
        RATE.format(3), "bound-measured",
    ),
    _theorem(
        "theorem-FA-star", "FA*", "FedAlt, sharper: exact sampling term, summed drift, first gradients kept",
        f"{_BOUND}, where $(1+\\alpha)c$ of FA is replaced by $c + \\alpha/(n-1)^2$, the drift factor by"
        " $(e^a - 1 - a)/a^2$ with $a = 1 + 2\\eta^2$, and both weights on the left are larger.",
        DERIVED.format(7), "tightness",
    ),
    _theorem(
        "theorem-FS-star", "FS*", "FedSim, sharper: exact sampling term, summed drift, first gradients kept",
        f"{_BOUND}, where $(1+\\alpha)c$ of FS is replaced by $(1+\\alpha c)c$, $1+\\alpha$ on $\\sigma_u^2$ by"
        " $1 + \\alpha/m$, the drift factor by $(e^a - 1 - a)/a^2$ with $a = 1 + 2\\eta^2(1+\\chi)^2$, and both weights"
        " on the left are larger.",
        DERIVED.format(7), "tightness",
    ),
)  # fmt: skip

_BOTH = ("fedalt", "fedsim")


def _lemma(name: str, title: str, statement: str, lemmas: tuple[tuple[str, str], ...], about: tuple[str, ...] = (),
           more: tuple[Direct, ...] = (), keys: tuple[str, ...] = ("FA", "FS"), figure: str = "") -> Claim:  # fmt: skip
    algebra = (Algebra(keys, about),) if about else ()
    return Claim(
        f"{PAPER}/lemma-{name}",
        title,
        statement,
        DERIVED.format(4),
        "lemma",
        parts(OnStates(lemmas), FalseLemmas(lemmas), *algebra, *more),
        tuple(dict.fromkeys(f"{a}:{key}" for a, key in lemmas)),
        figure,
    )


def _each(*keys: str) -> tuple[tuple[str, str], ...]:
    return tuple((a, key) for a in _BOTH for key in keys)


LEMMA_CLAIMS = (
    _lemma(
        "L1", "L1: sampling without replacement",
        "The mean over a uniform cohort of $m$ of $n$ vectors has mean square"
        " $\\|\\bar x\\|^2 + c\\,\\frac1n\\sum_i\\|x_i - \\bar x\\|^2$ with $c = \\frac{n-m}{m(n-1)}$, an equality.",
        _each("L1"), ("p", "p of pairs", "L1", "L1 with noise"),
    ),
    _lemma(
        "L2", "L2: drift of one block's local steps",
        "With $\\gamma = \\eta/(L\\tau)$ the squared distances of the local iterates from their start satisfy"
        " $L^2\\sum_k E\\|w_k - w_0\\|^2 \\le C(1-\\frac1\\tau)\\eta^2[2\\tau\\|\\nabla\\phi(w_0)\\|^2 + \\sigma^2]$.",
        (("fedalt", "L2_u"), ("fedalt", "L2_v")), ("L2",), keys=("FA",),
    ),
    _lemma(
        "L2-both", "L2': drift of both blocks in joint steps",
        "Where both blocks step at once, the drifts $s_k = L_uE\\|\\tilde u_k - u\\|^2 + L_vE\\|\\tilde v_k - v\\|^2$"
        " sum"
        " to at most $C'(1-\\frac1\\tau)\\eta^2$ times $2\\tau$ times the scaled squared gradients plus the scaled"
        " noise.",
        (("fedsim", "L2'"),), ("L2'",), keys=("FS",),
    ),
    _lemma(
        "L3", "L3: noise meets the drift only",
        "The sum of the noises of a client's local steps is uncorrelated with the gradient at the start, has mean"
        " square"
        " at most $\\tau\\sigma^2$, and $E\\langle r_i, z_i\\rangle \\le \\frac\\theta2E\\|r_i\\|^2 +"
        " \\frac{\\tau\\sigma^2}{2\\theta}$.",
        _each("L3_u", "L3_u_start", "L3_u_size", "L3_v", "L3_v_start", "L3_v_size"), ("L3 (u)", "L3 (v)"),
    ),
    _lemma(
        "L4", "L4: personal descent of a FedAlt client",
        "Over its personal steps a client's loss falls by $\\frac{\\eta}{2L_v}\\|g_0\\|^2$ and more in expectation,"
        " but for"
        " terms of drift and noise.",
        (("fedalt", "L4"),), ("L4", "L8 for v"), keys=("FA",),
    ),
    _lemma(
        "L5", "L5: displacement of the personal part",
        "$E\\|\\tilde v - v\\|^2 \\le \\gamma_v^2[\\tau_v\\sum_kE\\|g_k\\|^2 +"
        " (1+\\frac1{\\theta_v})\\tau_v\\sigma_v^2 +"
        " \\theta_v\\tau_v L_v^2D_v]$.",
        _each("L5"), ("L5",),
    ),
    _lemma(
        "L6", "L6: what absent or present clients change of the shared gradient",
        "Replacing the virtual personal parts by the real ones moves $\\nabla_uF$ in mean square by at most"
        " $(1-p)^2\\chi^2L_uL_v$ times the mean squared displacement; against the old ones (FedSim) by $p^2$ times it.",
        (("fedalt", "L6"), ("fedsim", "L6_present")), ("L6",), keys=("FA",),
    ),
    _lemma(
        "L7", "L7: unbiased on the virtual iterate, and only there",
        "$E\\langle\\nabla_uF(u,\\tilde V), \\frac1m\\sum_{i\\in S}(y_i+z_i)\\rangle ="
        " E\\langle\\nabla_uF(u,\\tilde V), \\bar y\\rangle$. With the real iterate in place of the virtual one there"
        " is a"
        " gap of exactly $c\\,p\\,E\\frac1n\\sum_i\\langle\\hat x_i - \\bar{\\hat x}, y_i - \\bar y\\rangle$.",
        _each("L7"), ("L7",), (Direct(gap_of_the_real_iterate),), figure="virtual-participation",
    ),
    _lemma(
        "L8", "L8: inner product along the local steps",
        "$-\\gamma E\\langle\\nabla F, \\bar y\\rangle$ is at most $-\\frac{\\eta}{2L}X -"
        " \\frac\\gamma2\\sum_kE\\|h_k\\|^2$"
        " plus half the step times the drift that the gradients see; for FedSim that is the drift of both blocks.",
        (("fedalt", "L8"), ("fedsim", "L8"), ("fedsim", "L8_v")), ("L8",),
    ),
    _lemma(
        "L9", "L9: size of the server's step",
        "The mean square of the cohort's mean step is at most $\\tau\\sum_kE\\|h_k\\|^2$ plus $c$ times diversity and"
        " drift"
        " plus $\\frac1m$ times noise and drift.",
        _each("L9"), ("L9",),
    ),
    _lemma(
        "L10", "L10: shared descent of FedAlt",
        "The noise of the shared phase does not meet $\\nabla_uF(u,V^+)$, so the shared step lowers the loss by the"
        " inner"
        " product at the virtual iterate, but for Young's terms and $\\frac{L_u\\gamma_u^2}2$ times its mean square.",
        (("fedalt", "L10"),), ("L10",), keys=("FA",),
    ),
    _lemma(
        "L11", "L11: joint descent of FedSim",
        "The joint step changes the loss by at most both inner products plus $\\frac{L_u(1+\\alpha)}2E\\|u^+-u\\|^2$"
        " plus"
        " $\\frac{L_v}2(p + \\frac{\\chi^2p^2}\\alpha)$ times the mean squared displacement.",
        (("fedsim", "L11"),), ("L11",), keys=("FS",),
    ),
)  # fmt: skip


def _composed(name: str, title: str, statement: str, keys: tuple[str, ...], layers: tuple[str, ...], section: int,
              figure: str = "") -> Claim:  # fmt: skip
    return Claim(f"{PAPER}/{name}", title, statement, DERIVED.format(section), "lemma",
                 parts(Algebra(keys, layers=layers)), keys, figure)  # fmt: skip


COMPOSED = (
    _composed(
        "composition-FA", "FA follows from its lemmas",
        "L4 averaged and weighted by $p$, and L10 with L6 to L9, L2 and L5, give the bound of one round; the terms"
        " $\\sum\\|h_k\\|^2$ and $\\sum\\|g_k\\|^2$ cancel under the first two premises, and summing over rounds gives"
        " $S_1$, $S_2$, $\\varepsilon_u$, $\\varepsilon_v$.",
        ("FA",), ("round", "definitions", "premises", "statement"), 4, "waterfall",
    ),
    _composed(
        "composition-FS", "FS follows from its lemmas",
        "L11 with L7 to L9 at the state, L3 for both blocks and L2' give the bound of one round and with it every"
        " symbol of the theorem.",
        ("FS",), ("round", "definitions", "premises", "statement"), 4, "waterfall",
    ),
    _composed(
        "free-parameters", "Limits of the free parameters",
        "With one local step, no noise, full participation or $\\chi = 0$ the limits $\\omega \\to 0$, $\\theta \\to"
        " \\infty$,"
        " $\\theta_v \\to \\infty$, $\\alpha \\to 0$ are allowed: what they would drive to infinity is not in the"
        " bound.",
        ("FA", "FS", "FA*", "FS*"), ("limits",), 2,
    ),
    Claim(
        f"{PAPER}/sampling-term", "The virtual-participation error is known exactly",
        "$E_S\\langle\\nabla_uF(u,V^+) - \\nabla_uF(u,\\tilde V), \\frac1m\\sum_{i\\in S}y_i\\rangle ="
        " (1-p)[\\langle\\bar x,\\bar y\\rangle - \\frac1{n-1}\\frac1n\\sum_i\\langle x_i-\\bar x, y_i-\\bar"
        " y\\rangle]$;"
        " for FedSim it is $p$ times the like term of the present clients. Young's inequality is then applied client by"
        " client.",
        DERIVED.format(7), "lemma",
        parts(Direct(sampling_term), Algebra(("FA*", "FS*"), ("sampling term, absent", "sampling term, present"))),
        ("FA*", "FS*"),
    ),
    Claim(
        f"{PAPER}/summed-drift", "Summing the drift recursion halves its constant",
        "Summing the recursion of L2 instead of bounding its last term replaces $\\frac12e^a$ by $(e^a-1-a)/a^2$,"
        " which is"
        " at least 1.8 times smaller for $a \\ge 1$.",
        DERIVED.format(7), "lemma", parts(Algebra(("FA*",), ("L2",)), Algebra(("FS*",), ("L2'",))), ("FA*", "FS*"),
    ),
)  # fmt: skip

CLAIMS = (*THEOREMS, *LEMMA_CLAIMS, *COMPOSED)
