"""Names and ids of containers that were given none."""

from __future__ import annotations

import os
from collections.abc import Callable

_ADJECTIVES = (
    "agile amber ample ardent astute avid balmy bold brave breezy bright brisk calm candid cheery"
    " civil clever cosy crisp curious dapper daring deft dewy eager earnest easy fair fearless fine"
    " fleet fluent fond frank fresh frosty gentle glad golden graceful grand handy hardy hearty"
    " honest humble ideal jaunty jolly keen kind lively loyal lucid lucky mellow merry mighty"
    " modest neat nimble noble patient placid plucky polite proud quick quiet rapid ready robust"
    " rosy serene sharp silver sleek snug sober solid spry stately steady sterling stout sunny"
    " supple sure swift tidy trusty upbeat vivid warm wise witty zesty"
)
_SURNAMES = (
    "abel airy ampere backus baird banach bernoulli bessel bode boole braun cantor cartan cayley"
    " cauchy celsius clarke conway coulomb cramer diesel dirac doppler eckert erdos erlang faraday"
    " fermi fisher forsythe foucault fourier frege fresnel galois gibbs grassmann green halley"
    " hamilton heaviside helmholtz henry hertz hilbert hooke huffman humboldt huygens jacobi joule"
    " kirchhoff klein kovacs lagrange landau laplace lebesgue leibniz lie liskov lorenz markov"
    " maxwell moebius morse napier naur nernst neumann noether ohm onsager oresund pauli peano"
    " perlis planck poisson ritz rubik russell scholz sieve snell steiner stokes strachey sylvester"
    " tesla tukey turing venn viete volta watt weber weyl wien zuse"
)


def new_id() -> str:
    """Return a container id: 64 hex digits."""
    return os.urandom(32).hex()


def new_name(taken: Callable[[str], bool]) -> str:
    """Return a name such as `brisk_noether` that is not *taken*."""
    for attempt in range(100):
        name = f"{_pick(_ADJECTIVES)}_{_pick(_SURNAMES)}"
        if attempt > 10:
            name += str(_random(1000))
        if not taken(name):
            return name
    return f"sbx_{os.urandom(8).hex()}"


def _pick(words: str) -> str:
    choices = words.split()
    return choices[_random(len(choices))]


def _random(below: int) -> int:
    # The module `random` costs milliseconds to import.
    return int.from_bytes(os.urandom(4), "big") % below
