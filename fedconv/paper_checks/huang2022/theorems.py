"""FedSpa's theorems with frozen and moving masks, its drift and jump lemmas, its invariants and costs, as claims."""

from __future__ import annotations

from fedconv.analysis.claims.claim import Claim, Kind
from fedconv.paper_checks.shared.building import on_statements

PAPER = "huang2022"
DERIVED = "theory page, {}, derived here"
RATE = "rate $O(1/\\sqrt T)$: the paper, as remembered; constants: theory page, {}, derived here"


def _claim(
    name: str, title: str, statement: str, source: str, *keys: str, kind: Kind = "theorem", figure: str = ""
) -> Claim:
    return on_statements(f"{PAPER}/{name}", title, statement, source, keys, kind=kind, figure=figure)


CLAIMS = (
    _claim(
        "lemma-1", "Lemma 1: one round with fixed masks, sharp",
        "One round lowers $E f$ by $\\frac\\eta L[(1-\\frac\\eta2)\\|\\nabla f\\|^2 - (1-\\eta)\\|\\nabla f\\|\\sqrt"
        " Q -"
        " \\frac\\eta2Q]$ but for $\\frac{\\eta^2}{2mL}[\\varphi(\\sqrt D+\\sqrt Q)^2 + \\frac{\\sigma^2}N +"
        " 2\\sigma\\sqrt{Q/N}]$.",
        DERIVED.format("Lemma 1"), "FSPA-L1", "FSPA-L1-mean", kind="lemma",
    ),
    _claim(
        "drift", "Drift of the masked local steps",
        "The mean squared bias of the clients' mean gradients along their local steps is at most the drift function"
        " $Q(G,\\sigma^2)$.", DERIVED.format("proof of Lemma 1"), "FSPA-B", "FSPA-B-mean", kind="lemma",
    ),
    _claim(
        "drift-function", "The drift function, exact and linear",
        "$Q(G,0) = E^2G$ with $E = ((1+\\eta/N)^N-1)/\\eta-1$, and $Q(G,s) \\le q_GG + q_\\sigma s$.",
        DERIVED.format("section 2"), "FSPA-E", "FSPA-Q", kind="lemma",
    ),
    _claim(
        "theorem-1", "Theorem 1: frozen masks converge",
        "With masks fixed, the mean squared gradient of the masked objective is at most"
        " $\\frac1A[\\frac{2\\Delta F}{\\eta T} + \\frac{\\eta}{mL}((1+c)\\varphi\\delta^2 +"
        " (1+c')\\frac{\\sigma^2}N) +"
        " \\frac\\kappa L(q_G\\delta^2 + q_\\sigma\\sigma^2)]$ where $A>0$.",
        RATE.format("Theorem 1"), "FSPA-1", "FSPA-1-exact", "FSPA-1-visited", figure="fedspa",
    ),
    _claim(
        "corollary-1", "Corollary 1: plain constants",
        "For small enough $\\eta$ the bound holds with $\\frac{16}7$ on $\\frac{\\Delta F}{\\eta T}$, and"
        " $\\frac{12}7$ on the"
        " noise and drift terms.", RATE.format("Corollary 1"), "FSPA-C1", "FSPA-C1-visited",
    ),
    _claim(
        "rate", "The rate at its own step",
        "At the step of the rate the mean squared gradient is at most $4\\sqrt{L\\Delta F\\,V/(mT)}$ plus terms of"
        " order"
        " $1/T$.", RATE.format("(6)"), "FSPA-6",
    ),
    _claim(
        "theorem-2", "Theorem 2: moving masks, jumps added",
        "With masks that move between rounds the same bound holds with $\\Delta F$ replaced by"
        " $\\Delta F + \\sum_tE J_t$, a signed sum of jumps of the objective.",
        DERIVED.format("Theorem 2"), "FSPA-2", "FSPA-2-visited", "FSPA-C2", "FSPA-C2-visited", figure="fedspa",
    ),
    _claim(
        "jump", "How large a jump can be",
        "$|J_t| \\le \\frac Bn\\sum_{k\\in S_t}\\|(m_{k,t+1}-m_{k,t})\\odot w_{t+1}\\|_1 \\le"
        " \\frac{BW_t}n\\sum_{k\\in S_t}\\mathrm{Ham}$, and no more than what pruning and regrowth do together.",
        DERIVED.format("(8)"), "FSPA-J", "FSPA-J-parts", "FSPA-J-Ham", kind="lemma",
    ),
    _claim(
        "hamming", "How far masks move, and what that does not give",
        "A mask changes by at most twice the exchanged weights; under annealing all changes together are of order"
        " $T$, so"
        " that this bound alone proves no $1/\\sqrt T$ rate for masks that keep moving.",
        DERIVED.format("section 2, what this does not give"), "FSPA-Ham", "FSPA-Ham-sum", kind="lemma",
    ),
    _claim(
        "invariants", "What every round keeps",
        "Budgets per layer, as many pruned as regrown, local iterates inside their masks, uncovered coordinates still,"
        " masks of absent clients unchanged.", DERIVED.format("section 3"), "FSPA-inv", kind="implementation",
    ),
    _claim(
        "bits", "Bits down and up",
        "Each sampled client receives $b\\,s_k$ bits and sends $b\\,s_k$ and the mask's changes.",
        DERIVED.format("section 1, cost"), "FSPA-bits", kind="implementation", figure="communication",
    ),
)  # fmt: skip
