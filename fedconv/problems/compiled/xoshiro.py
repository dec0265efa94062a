"""Random numbers that both engines draw in the same order: xoshiro256++ and a 256-layer ziggurat.

A generator's state is four uint64 words in the last axis of an array, advanced in place. xoshiro256++ is
Blackman and Vigna's (2019); the ziggurat is Marsaglia and Tsang's (2000) in the layout that NumPy uses,
with tables computed here. Everything is compiled by numba so that the fused engine can draw inside its loops.
"""

from __future__ import annotations

import math

import numpy as np

from fedconv.problems.compiled.jit import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TAIL = 3.6541528853610088  # right edge of the lowest layer for 256 layers


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(k, w, f) of the ziggurat: accept below k, scale w, density f at the layers' right edges."""

    def density(x: float) -> float:
        return math.exp(-0.5 * x * x)

    area = _TAIL * density(_TAIL) + math.sqrt(math.pi / 2) * math.erfc(_TAIL / math.sqrt(2))
    edge = np.zeros(256)
    edge[255] = _TAIL
    for i in range(254, 0, -1):
        edge[i] = math.sqrt(-2.0 * math.log(area / edge[i + 1] + density(edge[i + 1])))
    scale = 2.0**52
    k, w = np.zeros(256), np.zeros(256)
    k[0], w[0] = _TAIL * density(_TAIL) / area * scale, area / density(_TAIL) / scale
    for i in range(1, 256):
        k[i], w[i] = edge[i - 1] / edge[i] * scale, edge[i] / scale
    return k.astype(np.int64), w, np.exp(-0.5 * edge**2)


_K, _W, _F = _tables()


@njit(forceinline=True)
def _mix(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit()
def seed_state(key, replicate, t, state):
    """Fill ``state (4,)`` for one replicate and round from a cause's ``key (2,)`` (all uint64 or integer)."""
    a = _mix(key[0] + _mix(np.uint64(replicate) * _GOLDEN + np.uint64(1)))
    b = _mix(key[1] + _mix(np.uint64(replicate) * _GOLDEN + np.uint64(2)))
    a = _mix(a ^ _mix(np.uint64(t) * _GOLDEN + np.uint64(3)))
    b = _mix(b ^ _mix(np.uint64(t) * _GOLDEN + np.uint64(4)))
    state[0] = _mix(a + _GOLDEN)
    state[1] = _mix(b + _GOLDEN)
    state[2] = _mix(a + _GOLDEN + _GOLDEN)
    state[3] = _mix(b + _GOLDEN + _GOLDEN)


@njit(forceinline=True)
def _advance(a, b, c, d):
    """The next word of xoshiro256++ and the four words of the state after it."""
    total = a + d
    word = ((total << np.uint64(23)) | (total >> np.uint64(41))) + a
    t = b << np.uint64(17)
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = (d << np.uint64(45)) | (d >> np.uint64(19))
    return word, a, b, c, d


@njit(forceinline=True)
def next_word(s):
    """The next uint64 of xoshiro256++."""
    word, s[0], s[1], s[2], s[3] = _advance(s[0], s[1], s[2], s[3])
    return word


@njit(forceinline=True)
def open_unit(word):
    """The uniform number in the open interval (0, 1) that belongs to a word."""
    return (np.float64(np.int64(word >> np.uint64(11))) + 0.5) * (1.0 / 9007199254740992.0)


@njit(forceinline=True)
def uniform(s):
    """A uniform number in the open interval (0, 1)."""
    return open_unit(next_word(s))


@njit(forceinline=True)
def _propose(word):
    """(layer, x, accepted): the ziggurat's layer, the signed abscissa, whether it lies inside at once."""
    layer = np.int64(word & np.uint64(255))
    bits = np.int64((word >> np.uint64(9)) & np.uint64(0x000FFFFFFFFFFFFF))
    x = np.float64(bits) * _W[layer]
    return layer, -x if word & np.uint64(256) else x, bits < _K[layer]


@njit()
def _normal_slow(s, layer, x):
    """Finish a draw whose first proposal was not accepted at once."""
    while True:
        if layer == 0:
            while True:
                far = -math.log(uniform(s)) / _TAIL
                if -2.0 * math.log(uniform(s)) > far * far:
                    return -(_TAIL + far) if x < 0.0 else _TAIL + far
        if (_F[layer - 1] - _F[layer]) * uniform(s) + _F[layer] < math.exp(-0.5 * x * x):
            return x
        layer, x, accepted = _propose(next_word(s))
        if accepted:
            return x


@njit()
def normal(s):
    """A standard normal number."""
    layer, x, accepted = _propose(next_word(s))
    return x if accepted else _normal_slow(s, layer, x)


@njit(nogil=True)
def fill_normal(s, out):
    """Fill ``out (N,)`` with standard normal numbers: N calls of :func:`normal`, several times faster because
    the state stays in registers."""
    a, b, c, d = s[0], s[1], s[2], s[3]
    for j in range(out.size):
        word, a, b, c, d = _advance(a, b, c, d)
        layer, x, accepted = _propose(word)
        if not accepted:
            s[0], s[1], s[2], s[3] = a, b, c, d
            x = _normal_slow(s, layer, x)
            a, b, c, d = s[0], s[1], s[2], s[3]
        out[j] = x
    s[0], s[1], s[2], s[3] = a, b, c, d


@njit(nogil=True)
def fill_words(s, out):
    """Fill ``out (N,)`` (uint64) with words: the same as N calls of :func:`next_word`."""
    a, b, c, d = s[0], s[1], s[2], s[3]
    for j in range(out.size):
        out[j], a, b, c, d = _advance(a, b, c, d)
    s[0], s[1], s[2], s[3] = a, b, c, d


@njit()
def below(s, bound):
    """A uniform integer in 0..bound−1 (Lemire's rejection on 32 bits; bound < 2³²)."""
    wide = np.uint64(bound)
    while True:
        product = (next_word(s) >> np.uint64(32)) * wide
        low = product & np.uint64(0xFFFFFFFF)
        if low >= wide or low >= ((np.uint64(1) << np.uint64(32)) - wide) % wide:
            return np.int64(product >> np.uint64(32))
