"""FedFomo's propositions and theorems: first-order weights, descent, the rate, clusters, as claims."""

from __future__ import annotations

from fedconv.analysis.claims.claim import Claim
from fedconv.paper_checks.shared.building import on_statements

PAPER = "zhang2021"
DERIVED = "theory page, {}, derived here"


def _claim(
    name: str, title: str, statement: str, where: str, *keys: str, lemma: bool = False, figure: str = ""
) -> Claim:
    return on_statements(f"{PAPER}/{name}", title, statement, DERIVED.format(where), keys,
                         kind="lemma" if lemma else "theorem", figure=figure)  # fmt: skip


CLAIMS = (
    _claim(
        "proposition-1", "Secants against slopes",
        "For an $L$-smooth loss $|a_n - q_n| \\le LD_n/2$.", "Proposition 1", "FOMO-P1", lemma=True,
    ),
    _claim(
        "proposition-1-convex", "A gain certifies a direction of descent",
        "For a convex loss $a_n \\le q_n$: a candidate that lowers the loss lies in a direction of descent.",
        "Proposition 1", "FOMO-P1-convex", lemma=True,
    ),
    _claim(
        "proposition-2i", "What the weights optimise, over an ellipsoid",
        "Up to scale $w$ is the maximiser of $\\sum_nu_n\\Delta_n$ over $u\\ge0$, $\\sum_nc_nu_n^2\\le1$.",
        "Proposition 2(i)", "FOMO-P2i", lemma=True,
    ),
    _claim(
        "proposition-2ii", "What the weights optimise, over the simplex",
        "$w$ minimises $-\\sum_nu_n\\Delta_n + \\frac S2\\sum_nc_nu_n^2$ over the probability simplex.",
        "Proposition 2(ii)", "FOMO-P2ii", lemma=True,
    ),
    _claim(
        "theorem-1", "Convex: the mixed model keeps what the weights promise",
        "$L_i(\\theta^+) \\le L_i(\\theta^0) - \\sum_nw_n\\Delta_n$, and the promise is"
        " $\\sum^+(\\Delta_n^2/D_n)/\\sum^+(\\Delta_n/D_n) \\ge 0$.", "Theorem 1", "FOMO-1", "FOMO-1-sum",
    ),
    _claim(
        "monotone", "Convex: no client's loss ever rises",
        "$L_i$ at the mixed models never increases in $t$, whatever the training, the other clients or the choice of"
        " models"
        " do.", "Theorem 1", "FOMO-1-monotone", figure="fedfomo-losses",
    ),
    _claim(
        "theorem-2", "Weakly convex: at most $\\lambda/2$ times the spread is lost",
        "If $L_i + \\frac\\lambda2\\|\\cdot\\|^2$ is convex, the mixed model loses at most $\\frac\\lambda2V$ of the"
        " promise.",
        "Theorem 2", "FOMO-2",
    ),
    _claim(
        "theorem-2-safe", "Weakly convex: no increase where every used candidate earns it",
        "Where $\\Delta_n \\ge \\lambda D_n^2/2$ for every used candidate the loss does not rise.", "Theorem"
        " 2", "FOMO-2-safe",
    ),
    _claim(
        "proposition-3", "How much of the best candidate's gain is kept",
        "$\\sum_nw_n\\Delta_n \\ge \\frac{2\\Delta_r}{1+\\sqrt{\\kappa_r}}$ for every candidate with $\\Delta_r>0$.",
        "Proposition 3", "FOMO-P3", lemma=True,
    ),
    _claim(
        "proposition-3-own", "What is lost against one's own training",
        "$L_i(\\theta^+) - L_i(\\mathrm{own}) \\le \\Delta_{\\mathrm{self}}(1 -"
        " \\frac2{1+\\sqrt{\\kappa_{\\mathrm{self}}}})$.",
        "Proposition 3, consequences", "FOMO-P3-own", lemma=True,
    ),
    _claim(
        "theorem-3", "The rate, whatever the other clients do",
        "With one exact gradient step of size $\\gamma<2/L$ in the own training"
        " $\\sum_t\\frac{\\|\\nabla L_i\\|^2}{1+\\sqrt{\\kappa_t}} \\le \\frac{L_i(\\theta^0)-\\inf"
        " L_i}{2\\gamma(1-\\gamma L/2)}$.",
        "Theorem 3", "FOMO-3",
    ),
    _claim(
        "theorem-3-measured", "All that was promised is bounded",
        "$\\sum_t\\sum_nw_n\\Delta_n \\le L_i(\\theta^{\\ell(0)}) - \\inf L_i$ for any local training.", "Theorem 3",
        "FOMO-3-measured",
    ),
    _claim(
        "theorem-3-finite", "Finite validation splits cost twice their error",
        "If the split's loss is within $\\nu$ of the population's, $L_i(\\theta^+) \\le L_i(\\theta^0) + 2\\nu -"
        " \\sum_nw_n\\hat\\Delta_n$.", "Theorem 3", "FOMO-3-finite",
    ),
    _claim(
        "theorem-4i", "Quadratic clients: who gets no weight",
        "$w_{in}=0$ exactly where $\\|\\theta_n-c_i\\| \\ge \\|e_i\\|$, surely so for clients whose centres are far"
        " enough"
        " apart.", "Theorem 4(i)", "FOMO-4i", "FOMO-4i-far",
    ),
    _claim(
        "theorem-4ii", "Quadratic clients: contraction by the nearest candidate",
        "A candidate with $\\|\\theta_r-c_i\\| \\le r_0\\|e_i\\|$ contracts the error by"
        " $1-\\frac{(1-r_0)^2}{1-r_0+2(M_c-1)}$.", "Theorem 4(ii)", "FOMO-4ii",
    ),
    _claim(
        "theorem-4ii-own", "Quadratic clients without bias: contraction by the own model",
        "For $z=0$ the factor is $q = 1-\\frac{1-\\rho^2}{2M_c-1+\\rho}$ in every round, so that"
        " $\\|e_i^t\\| \\le q^t\\|e_i^0\\|$.", "Theorem 4(ii)", "FOMO-4ii-own", "FOMO-4ii-path",
    ),
    _claim(
        "theorem-4iii", "Clusters find themselves",
        "Without bias all weights across two clusters are exactly 0 from a round $t_0$ on.", "Theorem"
        " 4(iii)", "FOMO-4iii",
        figure="fedfomo-clusters",
    ),
    _claim(
        "theorem-4iii-rate", "Clusters: the rate once they have found themselves",
        "From $t_0$ on the largest error contracts by $\\rho$ a round.", "Theorem 4(iii)", "FOMO-4iii-rate",
        figure="fedfomo-clusters",
    ),
    _claim(
        "theorem-4iv", "Clusters find themselves in spite of bias",
        "With bias $z>0$ and centres more than $2z$ apart all weights across clusters are again exactly 0 from a round"
        " $t_0$ on.", "Theorem 4(iv)", "FOMO-4iv", figure="fedfomo-weights",
    ),
)  # fmt: skip
