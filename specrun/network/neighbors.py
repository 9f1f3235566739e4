"""Living beside other users of the packet filter: a FORWARD chain of iptables that drops what it does not know.

Docker and many firewalls set that chain's policy to drop. A verdict of a table of our own cannot undo it, so two rules
of ours go into that chain, which all share, and only where its policy is drop. They carry our root's id, touch nobody
else's rules, and go with our last bridge. What they let pass has been judged by our own table.
"""

from __future__ import annotations

import struct

from specrun.network import rules
from specrun_runtime import netlink, nft
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.paths import Root

_GETCHAIN, _GETRULE = 10 << 8 | 4, 10 << 8 | 7
_TABLE, _CHAIN_NAME, _CHAIN_POLICY, _RULE_CHAIN, _RULE_HANDLE, _RULE_USERDATA = 1, 3, 5, 2, 3, 7
_FAMILIES = {"ip": 2, "ip6": 10}
_DROP = 0


def pass_through(root: Root) -> None:
    """See to it that what comes from our bridges and goes to them is not dropped by a policy."""
    for family, number in _FAMILIES.items():
        with Netlink(netlink.NETFILTER) as kernel:
            if not _drops(kernel, number) or _ours(root, kernel, number):
                continue
        rest = f'"b{root.id}*" counter accept comment "{rules.table(root)}"'
        script = "".join(
            f"insert rule {family} filter FORWARD {direction} {rest}\n" for direction in ("iifname", "oifname")
        )
        try:
            nft.apply(script)
        except nft.NftFailed:
            continue  # changed meanwhile: the next command looks again


def withdraw(root: Root) -> None:
    """Take our rules away again."""
    for family, number in _FAMILIES.items():
        with Netlink(netlink.NETFILTER) as kernel:
            handles = _ours(root, kernel, number)
        for handle in handles:
            try:
                nft.apply(f"delete rule {family} filter FORWARD handle {handle}\n")
            except nft.NftFailed:
                continue


def _drops(kernel: Netlink, family: int) -> bool:
    """Whether iptables' chain FORWARD, where there is one, drops by policy."""
    body = _head(family) + netlink.text(_TABLE, "filter") + netlink.text(_CHAIN_NAME, "FORWARD")
    try:
        answers = kernel.ask(_GETCHAIN, body)
    except OSError:
        return False
    policies = [netlink.attributes(answer, 4).get(_CHAIN_POLICY) for answer in answers]
    return any(policy is not None and struct.unpack(">I", policy)[0] == _DROP for policy in policies)


def _ours(root: Root, kernel: Netlink, family: int) -> list[int]:
    """The handles of our rules in that chain."""
    body = _head(family) + netlink.text(_TABLE, "filter") + netlink.text(_RULE_CHAIN, "FORWARD")
    try:
        answers = kernel.ask(_GETRULE, body, netlink.DUMP)
    except OSError:
        return []
    mark = rules.table(root).encode()
    found = [netlink.attributes(answer, 4) for answer in answers]
    return [struct.unpack(">Q", one[_RULE_HANDLE])[0] for one in found if mark in one.get(_RULE_USERDATA, b"")]


def _head(family: int) -> bytes:
    """struct nfgenmsg."""
    return bytes([family, 0, 0, 0])
