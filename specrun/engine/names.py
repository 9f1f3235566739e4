"""Names for containers that were given none: an adjective and the surname of somebody who moved the field."""

from __future__ import annotations

import os

_ADJECTIVES = (
    "able agile alert amber brave bright brisk calm candid clear clever cosmic crisp daring deft eager early exact "
    "fair fluent fond frank gentle glad golden happy hardy honest humble jolly keen kind lively lucid lucky mellow "
    "merry mild modest nimble noble patient placid polite prompt proud quick quiet ready robust serene sharp silent "
    "sincere smooth solid spry stable steady sturdy subtle sunny swift tidy trusty upbeat vivid warm wise witty zesty"
).split()
_SURNAMES = (
    "allen babbage backus bartik boole borg brooks cerf church clarke codd conway cray dijkstra diffie engelbart "
    "erlang euler feinler floyd gauss goldberg goldwasser hamilton hamming hellman hoare hopper huffman iverson "
    "johnson kahan karp kay kernighan kleene knuth kolmogorov lamarr lamport lampson lattner liskov lovelace "
    "mccarthy meyer milner minsky moore naur neumann noether nygaard pascal perlman perlis postel rabin "
    "ritchie rivest sammet scott shamir shannon stallman stonebraker sutherland tarjan thompson torvalds turing "
    "valiant wilkes wilkinson wirth zuse"
).split()


def generate() -> str:
    """A name such as `calm_hopper`."""
    first, second, third, fourth = os.urandom(4)
    adjective = _ADJECTIVES[(first << 8 | second) % len(_ADJECTIVES)]
    return f"{adjective}_{_SURNAMES[(third << 8 | fourth) % len(_SURNAMES)]}"
