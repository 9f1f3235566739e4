"""Whether the host forwards packets: switched on while networks need it, and back off when nobody does any more.

`net.ipv4.ip_forward` is the whole host's. So what it was before is recorded for the host, not for a root: one file for
each root that needs it, in a folder of the network namespace. A root that finds it switched on by another root
takes over what that one found. Whoever goes last switches it off, unless it was on before specrun came, was
changed by somebody else, or is relied upon: other bridges, tunnels, rules about forwarded packets, or sysctl.conf.
"""

from __future__ import annotations

import _socket
import os

from specrun.files import write_atomic
from specrun.network import links
from specrun_runtime import jsontext, netlink, nft
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from specrun.paths import Root

FOLDER = "/run/specrun/forwarding"
"""For all roots of the host, wherever their own run folders are."""
_IPV4, _IPV6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"
_GETTABLE = nft.SUBSYSTEM << 8 | 1
_SO_NETNS_COOKIE = 71
_ROUTING = frozenset(("bridge", "tun", "wireguard", "vxlan", "gre", "ipip", "sit", "ip6tnl", "vti", "xfrm", "ppp"))
"""Kinds of links by which a host forwards."""
_CONFIGURATION = ("/etc/sysctl.conf", "/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")


def switch_on(root: Root, *, ipv6: bool) -> None:
    """Let the host forward packets. The caller is the only one of all roots that looks at it."""
    wanted = {_IPV4: "1"}
    if ipv6:
        if get(_IPV6) == "0":
            # A router ignores advertisements, and would lose its own routes, unless it is told otherwise.
            wanted.update({key: "2" for key in _listeners() if get(key) == "1"})
        wanted[_IPV6] = "1"
    known = _load(root.id)
    theirs, gone = _of_others(root)
    mine = {**_of_the_gone(gone), **known}
    for key, value in wanted.items():
        if get(key) not in (value, ""):
            mine.setdefault(key, [get(key), value])
        elif key in theirs:
            mine.setdefault(key, theirs[key])
    if ipv6:
        mine.update({key: value for key, value in theirs.items() if key in _listeners() and key not in mine})
    if mine != known:
        _save(root.id, mine)
    for identity in gone:
        _save(identity, {})
    for key, value in wanted.items():
        if get(key) not in (value, ""):
            put(key, value)


def switch_back(root: Root, *, but: Iterable[int]) -> None:
    """Give back what no network of this root needs any more, `but` for these versions of IP.

    The caller is the only one of all roots that looks at it.
    """
    theirs, gone = _of_others(root)
    mine = {**_of_the_gone(gone), **_load(root.id)}
    kept = {key: value for key, value in mine.items() if (6 if "ipv6" in key else 4) in but}
    if kept == mine and not gone:
        return
    ours = {key: value for key, value in mine.items() if key not in kept and key not in theirs}
    ours = {key: value for key, value in ours.items() if get(key) == value[1]}
    if ours and not _is_relied_upon(root):
        for key, (before, _) in sorted(ours.items()):  # net/ipv6/conf/all first: it changes the links' too
            put(key, before)
    _save(root.id, kept)
    for identity in gone:
        _save(identity, {})


def records(identity: str) -> list[str]:
    """The files in which the root of that id has recorded what it has changed, one for each network namespace."""
    paths = (f"{FOLDER}/{name}/{identity}" for name in _listed(FOLDER))
    return [path for path in paths if os.path.exists(path)]


def forget(identity: str) -> None:
    """Forget what the root of that id has changed in network namespaces that end with it."""
    for path in records(identity):
        _drop(os.path.dirname(path), identity)


def _listeners() -> list[str]:
    """Whether a link heeds router advertisements, for each link."""
    folder = "net/ipv6/conf"
    return [f"{folder}/{link}/accept_ra" for link in _listed(f"/proc/sys/{folder}") if link not in ("all", "default")]


def _folder() -> str:
    """Of this network namespace: by its inode, which tells whether it is there still, and by what no other ever has."""
    inode = os.stat(links.NAMESPACE).st_ino
    plug = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        cookie = plug.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()
    except OSError:  # before Linux 5.14
        cookie = ""
    finally:
        plug.close()
    return f"{FOLDER}/{inode}.{cookie}"


def _load(identity: str) -> dict[str, list[str]]:
    """Parameter -> what it was, and what a specrun has set."""
    try:
        with open(f"{_folder()}/{identity}", "rb") as file:
            found: dict[str, list[str]] = jsontext.loads(file.read())
            return found
    except (FileNotFoundError, ValueError):
        return {}


def _save(identity: str, record: dict[str, list[str]]) -> None:
    folder = _folder()
    if not record:
        _drop(folder, identity)
        return
    if not os.path.isdir(folder):
        _forget_the_gone()
        os.makedirs(folder, mode=0o700, exist_ok=True)
    write_atomic(f"{folder}/{identity}", jsontext.dumps(record).encode(), durable=False)


def _drop(folder: str, identity: str) -> None:
    """Remove a record, and the folders that hold no more of them."""
    try:
        os.unlink(f"{folder}/{identity}")
        os.rmdir(folder)
        os.rmdir(FOLDER)
    except OSError:
        pass  # there is none, or others have theirs


def _forget_the_gone() -> None:
    """Remove the records of network namespaces that ended, and their networks with them, before anybody removed these.

    A namespace is there while a process is in it or a mount holds it.
    """
    names = _listed(FOLDER)
    if not names:
        return
    roots = (line.split(" ", 4)[3] for line in _read("/proc/self/mountinfo").splitlines())
    found = {root[5:-1] for root in roots if root.startswith("net:[")}
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.add(str(os.stat(f"/proc/{process}/ns/net").st_ino))
        except OSError:
            continue  # it has ended, or is somebody else's
    for name in names:
        if name.partition(".")[0] not in found:
            for identity in _listed(f"{FOLDER}/{name}"):
                _drop(f"{FOLDER}/{name}", identity)


def _of_others(root: Root) -> tuple[dict[str, list[str]], list[str]]:
    """What other roots have recorded that still have networks here, and which roots have recorded something and none.

    The latter were removed, were killed before they switched it back, or are about to do so.
    """
    theirs: dict[str, list[str]] = {}
    gone = []
    for identity in _listed(_folder()):
        if identity == root.id:
            continue
        if _is_here(identity):
            theirs.update(_load(identity))
        else:
            gone.append(identity)
    return theirs, gone


def _of_the_gone(identities: list[str]) -> dict[str, list[str]]:
    """What roots without networks have recorded, and whoever looks next has to switch back in their place."""
    return {key: value for identity in identities for key, value in _load(identity).items()}


def _is_here(identity: str) -> bool:
    """Whether a root has a table or a bridge in this network namespace."""
    if any(name.startswith(f"b{identity}") for _, name in _socket.if_nameindex()):
        return True
    body = bytes([nft.FAMILIES["inet"], 0, 0, 0]) + netlink.text(1, f"specrun_{identity}")
    try:
        with Netlink(netlink.NETFILTER) as kernel:
            return bool(kernel.ask(_GETTABLE, body))
    except OSError:
        return False


def _is_relied_upon(root: Root) -> bool:
    """Whether somebody besides specrun seems to need forwarding."""
    with Netlink() as kernel:
        kinds = links.kinds(kernel)
    if any(kind in _ROUTING and not _is_ours(name) for name, kind in kinds.items()):
        return True
    return _is_configured() or any(_rules_of_others())


def _is_ours(link: str) -> bool:
    return link[:1] == "b" and len(link) == 15 and _is_here(link[1:9])


def _is_configured() -> bool:
    """Whether sysctl.conf(5) says that it is to be on."""
    wanted = {f"{key.replace('/', '.')}=1" for key in (_IPV4, _IPV6)}
    for folder in _CONFIGURATION:
        for path in (folder, *(f"{folder}/{name}" for name in _listed(folder))):
            lines = _read(path).replace(" ", "").replace("/", ".").splitlines()
            if not wanted.isdisjoint(line.removeprefix("-") for line in lines):
                return True
    return False


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _rules_of_others() -> Iterator[dict[str, Any]]:
    """Rules about packets that are forwarded, or that leave with another address, in tables of anybody else."""
    import json
    import subprocess

    program = nft.program()
    if program is None:
        return
    done = subprocess.run([program, "-j", "list", "ruleset"], capture_output=True, check=False)
    items = json.loads(done.stdout)["nftables"] if done.returncode == 0 else []
    chains = set()
    for item in items:
        chain = item.get("chain") or {}
        if chain.get("hook") == "forward" or (chain.get("hook"), chain.get("type")) == ("postrouting", "nat"):
            chains.add((chain["family"], chain["table"], chain["name"]))
    for item in items:
        rule = item.get("rule") or {}
        place = (rule.get("family"), rule.get("table"), rule.get("chain"))
        if place in chains and "specrun_" not in str(rule.get("table")) + str(rule.get("comment")):
            yield rule


def get(key: str) -> str:
    """The value of a parameter of the kernel; "" when there is none of that name."""
    return _read(f"/proc/sys/{key}").strip()


def put(key: str, value: str) -> None:
    """Set a parameter of the kernel; those of IPv6 are left out on a kernel without it."""
    try:
        with open(f"/proc/sys/{key}", "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        if "ipv6" not in key:
            raise
