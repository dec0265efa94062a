"""FFGG's theorems as claims: exact and inexact fine-tuning, local steps, an asynchronous server."""

from __future__ import annotations

from functools import partial

from fedconv.analysis.claims.claim import Claim
from fedconv.paper_checks.shared.building import on_statements

PAPER = "mishchenko2023"
DERIVED = "theory page, Theorem {}, derived here"
QUALITATIVE = "that heterogeneity does not enter: the paper; the constants: theory page, Theorem {}, derived here"


def _claim(name: str, title: str, statement: str, number: str, *keys: str, paper: bool = False, lemma: bool = False,
           figure: str = "") -> Claim:  # fmt: skip
    source = (QUALITATIVE if paper else DERIVED).format(number)
    build = partial(on_statements, kind="lemma") if lemma else on_statements
    return build(f"{PAPER}/{name}", title, statement, source, keys, figure=figure)


SMOOTHNESS = (
    _claim(
        "theorem-1a", "Descent uses the curvature of the shared part alone",
        "At any minimiser $\\theta$ of $f_m(w,\\cdot)$ with $g = \\nabla_wf_m(w,\\theta)$:"
        " $F_m(w+\\Delta) \\le F_m(w) + \\langle g,\\Delta\\rangle + \\frac{L_u}2\\|\\Delta\\|^2$.", "1(a)", "FFGG-1a",
    ),
    _claim(
        "theorem-1b", "The envelope is smooth where the personal part is strongly convex",
        "$F_m$ is differentiable with $\\nabla F_m(w) = \\nabla_wf_m(w,\\theta_m^*(w))$, and its gradient is"
        " Lipschitz with"
        " $L_F = \\max\\{L_u, \\ell_u + L_{uv}^2/\\mu_v\\} \\le L_u +"
        " L_{uv}^2/\\mu_v$.", "1(b)", "FFGG-1b", "FFGG-1b-L_F",
    ),
    _claim(
        "theorem-1c", "Joint convexity needs no strong convexity",
        "Where $f_m$ is jointly convex, $F_m$ is convex and $\\nabla F_m$ is $L_u$-Lipschitz; for nonconvex $f_m$"
        " that is"
        " false.", "1(c)", "FFGG-1c",
    ),
    _claim(
        "theorem-1d", "Least squares: the smoothness is that of what the personal part leaves over",
        "With $P_m = I - B_mB_m^\\dagger$ the envelope of least squares has $L_m = \\|P_mA_m\\|_2^2 \\le"
        " \\|A_m\\|_2^2$.",
        "1(d)", "FFGG-1d",
    ),
    _claim(
        "theorem-2b", "The personalization gap of least squares",
        "$G = F^* - \\frac1M\\sum_m\\inf f_m$ is, for least squares, the part of the targets that no shared $w$ fits.",
        "2(b); the notion of an overpersonalized problem: the paper", "FFGG-2b",
    ),
    _claim(
        "theorem-2d", "The gap bounds heterogeneity at the optimum",
        "$\\zeta_*^2 = \\frac1M\\sum_m\\|\\nabla F_m(w^*)\\|^2 \\le 2L_{\\max}G$: an overpersonalized problem has"
        " none.",
        "2(d)", "FFGG-2d",
    ),
    _claim(
        "fact-E2", "A gradient is bounded by the excess",
        "$\\|\\nabla F(w)\\|^2 \\le 2L(F(w)-F^*)$ at every iterate, without convexity.", "facts,"
        " (E2)", "FFGG-3-E2", lemma=True,
    ),
    _claim(
        "fact-E2-clients", "Clients' gradients are bounded by excess and gap",
        "$\\frac1M\\sum_m\\|\\nabla F_m(w)\\|^2 \\le 2L_{\\max}(F(w)-F^*+G)$: no dissimilarity has to be assumed.",
        "3(d), its proof", "FFGG-7-E2", lemma=True,
    ),
    _claim(
        "fact-PL", "The PL inequality at every iterate",
        "$\\|\\nabla F\\|^2 \\ge 2\\mu(F-F^*)$ with the problem's exact $\\mu$.", "setting", "FFGG-3-PL", lemma=True,
    ),
)  # fmt: skip

EXACT = (
    _claim(
        "theorem-3a", "Everyone, nonconvex",
        "For $0<\\gamma<2/L$ the mean squared gradient of $T$ rounds is at most"
        " $\\frac{2(F(w^0)-F(w^T))}{\\gamma(2-\\gamma L)T}$.",
        "3(a)", "FFGG-3a",
    ),
    _claim(
        "theorem-3b", "Everyone, convex",
        "For $\\gamma\\le1/L$: $D_T \\le \\frac1{T+1}\\sum_{k\\le T}D_k \\le \\frac{R_0^2}{2\\gamma(T+1)}$; for the"
        " last iterate"
        " at $\\gamma=1/L$ the sharp value is $\\frac{LR_0^2}{4T+2}$.", "3(b); last iterate: Drori and Teboulle, from"
        " memory",
        "FFGG-3b", "FFGG-3b-last",
    ),
    _claim(
        "theorem-3c", "Everyone, PL",
        "$D_T \\le (1-\\gamma\\mu(2-\\gamma L))^TD_0$ for $0<\\gamma<2/L$, and so in every single round.", "3(c)",
        "FFGG-3c", "FFGG-3c-step",
    ),
    _claim(
        "theorem-3c-distance", "Everyone, strongly convex: the distance",
        "$\\|w^T-w^*\\|^2 \\le (1-\\gamma\\mu)^{2T}R_0^2$ for $\\gamma\\le\\frac2{L+\\mu}$, and so in every single"
        " round.", "3(c)",
        "FFGG-3c-distance", "FFGG-3c-distance-step",
    ),
    _claim(
        "theorem-3d", "Some clients a round, nonconvex, no dissimilarity assumption",
        "For $\\gamma\\le1/L$ a weighted mean of the squared gradients is bounded; for steps below"
        " $(\\omega LL_{\\max}T)^{-1/2}$ by $\\frac{2eD_0}{\\gamma T} + 2\\omega LL_{\\max}\\gamma G$, whose floor"
        " vanishes with"
        " the gap.", "3(d)", "FFGG-3d", "FFGG-3d-min",
    ),
    _claim(
        "theorem-3e", "Some clients a round, convex",
        "For $\\gamma<1/\\mathcal L$ the mean excess is at most $\\frac{R_0^2}{2\\gamma(T+1)}$ plus a floor"
        " $\\frac{\\gamma\\omega\\zeta_*^2}{2(1-\\gamma\\mathcal L)}$; overpersonalized there is no floor, and"
        " $\\gamma=1/\\mathcal L$ is allowed.", "3(e)", "FFGG-3e", "FFGG-3e-over",
    ),
    _claim(
        "theorem-3f", "Some clients a round, overpersonalized, strongly convex",
        "$E\\|w^T-w^*\\|^2 \\le (1-\\gamma\\mu(2-\\gamma\\mathcal L))^TR_0^2$: linear convergence to the exact"
        " optimum with a"
        " constant step.", "3(f)", "FFGG-3f", "FFGG-3f-step",
    ),
)  # fmt: skip

INEXACT = (
    _claim(
        "bias", "From inexact personal parts to a biased gradient",
        "$\\|b_k\\| \\le L_{uv}E_k$, and $\\|b_k\\| \\le \\frac{L_{uv}}{\\mu_v}$ times the mean of"
        " $\\|\\nabla_\\theta f_m\\|$ at the personal parts used.", "4,"
        " conversion", "FFGG-4-bias", "FFGG-4-grad", lemma=True,
    ),
    _claim(
        "theorem-4a", "Inexact fine-tuning, nonconvex",
        "The mean squared gradient is at most $\\frac{2(F(w^0)-F(w^T))}{\\gamma T}$ plus the mean of"
        " $\\|b_k\\|^2$.", "4(a)",
        "FFGG-4a",
    ),
    _claim(
        "theorem-4b", "Inexact fine-tuning, PL",
        "$D_T$ contracts by $1-\\gamma\\mu$ a round up to a discounted sum of $\\|b_k\\|^2$, hence to a floor of"
        " $\\max_k\\|b_k\\|^2/(2\\mu)$.", "4(b)", "FFGG-4b", "FFGG-4b-max", "FFGG-4b-step",
    ),
    _claim(
        "theorem-4c", "Inexact fine-tuning, convex",
        "The mean excess is at most $\\frac{(R_0+\\gamma\\sum_k\\|b_k\\|)^2}{2\\gamma(T+1)}$.", "4(c)", "FFGG-4c",
    ),
    _claim(
        "theorem-4d", "Warm-started personal steps leave no floor, nonconvex",
        "With $K$ inner steps from the last personal part and $\\gamma\\le(L+\\frac{q\\Lambda}{1-q})^{-1}$ the mean"
        " squared"
        " gradient is $O(1/T)$; started anew in every round it keeps a floor.", "4(d)", "FFGG-4d",
    ),
    _claim(
        "theorem-4e", "Warm-started personal steps, PL: a linear rate",
        "The potential $D_k + \\frac{\\gamma L_{uv}^2}{1-q}E_k^2$ contracts by $1-\\gamma\\mu$ in every round.", "4(e)",
        "FFGG-4e", "FFGG-4e-step",
    ),
)  # fmt: skip

LOCAL = (
    _claim(
        "theorem-5a-fejer", "Local steps, overpersonalized: no round leads away",
        "$\\|w^{k+1}-w^*\\| \\le \\|w^k-w^*\\|$ for every common minimiser, for any number of local steps and"
        " $\\gamma\\le2/L$.", "5(a)", "FFGG-5a-fejer", paper=True,
    ),
    _claim(
        "theorem-5a", "Local steps, overpersonalized: no heterogeneity term",
        "All local gaps together are at most $\\frac{R_0^2}{2\\gamma}$, and the mean excess of the server's iterates"
        " at most"
        " $\\frac{R_0^2}{2\\gamma s_\\tau"
        " K}$.", "5(a)", "FFGG-5a-local", "FFGG-5a", paper=True, figure="ffgg-local-steps",
    ),
    _claim(
        "theorem-5a-rate", "Local steps, overpersonalized: linear rates",
        "With $D\\ge\\frac\\mu2\\mathrm{dist}^2$ the squared distance contracts by $1-\\gamma s_\\tau\\mu$ a round,"
        " for least"
        " squares by $1-\\frac\\mu L(1-(1-\\gamma L)^{2\\tau})$.", "5(a)", "FFGG-5a-rate", "FFGG-5a-LS", paper=True,
    ),
    _claim(
        "theorem-5b", "Local steps on any convex problem: a floor of heterogeneity",
        "For $\\gamma\\tau L\\le1$ the mean excess along the virtual averages is at most $\\frac{R_0^2}{2\\gamma\\tau"
        " K}$ plus"
        " $\\frac{\\gamma^2L(\\tau-1)(2\\tau-1)}{6(2-\\alpha^2)}\\zeta_*^2$ with $\\alpha=\\gamma\\tau"
        " L$.", "5(b)", "FFGG-5b",
        figure="ffgg-local-steps",
    ),
)  # fmt: skip

ASYNCHRONOUS = (
    _claim(
        "theorem-6", "Asynchronous, overpersonalized: arbitrary arrivals and delays",
        "For $\\gamma\\le\\frac1{(2\\tau_{\\max}+1)L_{\\max}}$ the mean gap at the stale points is at most"
        " $\\frac{R_0^2}{2\\gamma K}$, whatever the arrivals.", "6", "FFGG-6", paper=True, figure="ffgg-asynchrony",
    ),
    _claim(
        "theorem-6a", "Asynchronous with random assignment",
        "Where each job goes to a uniform client, the mean excess of the points sent is at most"
        " $\\frac{R_0^2}{2\\gamma(K-\\tau_{\\max})}$.", "6(a)", "FFGG-6a", paper=True, figure="ffgg-asynchrony",
    ),
    _claim(
        "theorem-6b", "Asynchronous with covering windows",
        "Where every client arrives in each window of $W$ updates, the mean excess at the windows' starts is at most"
        " $\\frac{R_0^2}{\\gamma P}(\\frac1M +"
        " \\frac{h(1+\\lceil\\tau_{\\max}/W\\rceil)}{(2\\tau_{\\max}+1)^2})$.", "6(b)",
        "FFGG-6b", paper=True, figure="ffgg-asynchrony",
    ),
)  # fmt: skip

BYZANTINE = (
    _claim(
        "theorem-7A", "Robust aggregation: the error is bounded by the honest spread",
        "In every round $\\|\\mathrm{Agg}-\\nabla F\\|^2 \\le \\kappa\\mathcal V + \\beta\\|\\nabla F\\|^2$ with the"
        " $\\kappa$ proved for"
        " the rule, in expectation where it is randomised.", "7A", "FFGG-7A", "FFGG-7A-random",
    ),
    _claim(
        "theorem-7B-B", "Overpersonalized: gradients differ no more than their mean is large",
        "$\\mathcal V \\le B^2\\|\\nabla F\\|^2$ with $B^2 = L_{\\max}/\\mu - 1$, for least squares exactly"
        " known.", "7B(b)",
        "FFGG-7-B", lemma=True,
    ),
    _claim(
        "theorem-7Ba", "Byzantine clients, nonconvex",
        "The mean squared gradient is at most $\\frac{2D_0}{\\gamma(1-\\kappa B^2)K} +"
        " \\frac{\\kappa\\zeta^2}{1-\\kappa B^2}$.",
        "7B(a)", "FFGG-7Ba", "FFGG-7Ba-random", paper=True,
    ),
    _claim(
        "theorem-7Bb", "Byzantine clients, overpersonalized, PL: the exact optimum, linearly",
        "$D_K \\le (1-\\gamma\\mu(1-\\kappa B^2))^KD_0$ where $\\kappa B^2<1$.", "7B(b)", "FFGG-7Bb", "FFGG-7Bb-step",
        "FFGG-7Bb-random", paper=True, figure="ffgg-byzantine",
    ),
    _claim(
        "theorem-7Bc", "Byzantine clients, overpersonalized, convex",
        "$D_K \\le \\frac{2\\rho_0^2}{\\gamma(1-\\kappa B^2)K}$ where $\\kappa B^2<1$, and a little"
        " better.", "7B(c)", "FFGG-7Bc",
        paper=True,
    ),
    _claim(
        "theorem-7Bd", "Byzantine clients, not overpersonalized: a floor",
        "With $\\epsilon=\\sqrt\\kappa B<1$ and $r = 1-\\gamma\\mu(1-\\epsilon)$:"
        " $D_K \\le r^KD_0 + (1-r^K)\\frac{\\kappa\\zeta_*^2}{2\\mu(1-\\epsilon)^2}$.", "7B(d)",
        "FFGG-7Bd", "FFGG-7Bd-random", figure="ffgg-byzantine",
    ),
    _claim(
        "theorem-7Be", "Two worlds that no server tells apart",
        "A rule that is exact for identical honest clients suffers $D \\ge \\frac f{n-2f}\\frac{\\zeta_*^2}{2\\mu}$"
        " in the other"
        " world.", "7B(e)", "FFGG-7Be",
    ),
    _claim(
        "theorem-7Bf", "Trimming works up to the threshold that no method passes",
        "On overpersonalized problems the trimmed mean converges for every share of attackers below $\\frac1{2+B^2}$,"
        " and"
        " beyond it no method does on the whole class.", "7B(f)", "FFGG-7Bf", paper=True,
    ),
)  # fmt: skip

CLAIMS = (*SMOOTHNESS, *EXACT, *INEXACT, *LOCAL, *ASYNCHRONOUS, *BYZANTINE)
