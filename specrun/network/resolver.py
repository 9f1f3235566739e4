"""The resolver of a root: names of containers from the records, everything else from the servers of the host.

A process of its own, which reads packets that containers have written: it has no capabilities, believes nothing, and
answers each container by the socket in that container's namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSRecord

from specrun.files import locked
from specrun.network import names
from specrun.network.subnets import parse
from specrun.paths import Root
from specrun_runtime import libc
from specrun_runtime.channel import receive_with
from specrun_runtime.constants import Prctl
from specrun_runtime.fds import open_process

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

TTL = 600
IDLE = 10.0
"""Seconds without containers after which the resolver ends."""
_PATIENCE = 3.0
"""Seconds that a server has for its answer."""
_MOST = 100
"""Questions of one container that may wait for servers at a time."""


class Directory:
    """Who is called what, by the records of the containers; read again when one of them has changed."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._known: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._turn = 0

    def addresses(self, asker: str, name: str, family: int) -> list[str] | None:
        """Addresses of this family that `name` has for this container; None when nobody is called so."""
        wanted = name.rstrip(".").lower()
        found: list[str] = []
        known = False
        for network in self._networks(asker):
            for member in self._members(network["network"]):
                if wanted in self._names(member, network):
                    known = True
                    endpoint = self._endpoint(member, network["network"])
                    address = endpoint["address6" if family == socket.AF_INET6 else "address"] if endpoint else ""
                    found += [address] if address else []
        if found:
            self._turn += 1
            at = self._turn % len(found)
            found = found[at:] + found[:at]
        return found if known else None

    def name_of(self, asker: str, address: str) -> str | None:
        """The name of the container that has the address in one of the asker's networks."""
        for network in self._networks(asker):
            for member in self._members(network["network"]):
                endpoint = self._endpoint(member, network["network"])
                if endpoint and address in (endpoint["address"], endpoint["address6"]):
                    return f"{self._about(member)['name']}.{network['name']}"
        return None

    def may_ask_outside(self, asker: str) -> bool:
        """Whether any of the container's networks leads out."""
        return any(not network["internal"] for network in self._networks(asker))

    def servers(self, asker: str) -> list[str]:
        """Who else is asked: --dns of the container, or the host's servers."""
        chosen = (self._about(asker).get("host_config") or {}).get("Dns")
        if chosen:
            return [str(server) for server in chosen]
        try:
            lines = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        words = [line.split() for line in lines]
        return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]

    def _networks(self, identity: str) -> list[dict[str, Any]]:
        record = self._read(identity, "network.json")
        return [endpoint for endpoint in record.get("endpoints", []) if endpoint["name"] != "bridge"]

    def _endpoint(self, identity: str, network: str) -> dict[str, Any] | None:
        record = self._read(identity, "network.json")
        return next((one for one in record.get("endpoints", []) if one["network"] == network), None)

    def _about(self, identity: str) -> dict[str, Any]:
        return self._read(identity, "container.json") or {"name": identity[:12]}

    def _names(self, identity: str, network: dict[str, Any]) -> set[str]:
        endpoint = self._endpoint(identity, network["network"])
        name = str(self._about(identity)["name"]).lower()
        aliases = {alias.lower() for alias in (endpoint or {}).get("aliases", [])}
        plain = {name, identity[:12], *aliases}
        return plain | {f"{one}.{network['name'].lower()}" for one in plain}

    def _members(self, network: str) -> Iterable[str]:
        folder = f"{self._root.networks}/{network}/leases"
        try:
            entries = sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        found = {}
        for entry in entries:
            with contextlib.suppress(OSError):
                found[os.readlink(f"{folder}/{entry}")] = True
        return list(found)

    def _read(self, identity: str, file: str) -> dict[str, Any]:
        path = f"{self._root.containers}/{identity}/{file}"
        try:
            info = os.stat(path)
            stamp = (info.st_mtime_ns, info.st_ino)
            known = self._known.get(path)
            if known is None or known[0] != stamp:
                if len(self._known) > 10000:
                    self._known.clear()
                known = self._known[path] = (stamp, json.loads(Path(path).read_bytes()))
            return known[1]
        except (OSError, ValueError):
            self._known.pop(path, None)
            return {}


class Client:
    """One container, as long as its monitor lives."""

    def __init__(self, resolver: Resolver, identity: str, sockets: list[int], monitor: int) -> None:
        self.resolver = resolver
        self.identity = identity
        self.waiting = 0
        self.monitor = monitor
        self.datagrams = socket.socket(fileno=sockets[0])
        self.streams = socket.socket(fileno=sockets[1])
        self.tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.datagrams, self._datagram)
        loop.add_reader(self.streams, self._stream)
        loop.add_reader(self.monitor, self.close)

    def close(self) -> None:
        """The container has ended."""
        loop = asyncio.get_running_loop()
        for source in (self.datagrams, self.streams, self.monitor):
            loop.remove_reader(source)
        for task in self.tasks:
            task.cancel()
        self.datagrams.close()
        self.streams.close()
        os.close(self.monitor)
        self.resolver.forget(self)

    def _datagram(self) -> None:
        try:
            data, sender = self.datagrams.recvfrom(65535)
        except OSError:
            return
        self._begin(self._answer_datagram(data, sender))

    def _stream(self) -> None:
        try:
            line, _ = self.streams.accept()
        except OSError:
            return
        line.setblocking(False)
        self._begin(self._answer_stream(line))

    def _begin(self, work: Any) -> None:
        if len(self.tasks) >= _MOST:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer_datagram(self, data: bytes, sender: Any) -> None:
        answer = await self.resolver.answer(self.identity, data, stream=False)
        if answer is not None:
            with contextlib.suppress(OSError):
                self.datagrams.sendto(answer, sender)

    async def _answer_stream(self, line: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=line)
        try:
            while True:
                async with asyncio.timeout(10.0):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                answer = await self.resolver.answer(self.identity, data, stream=True)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            writer.close()


class Resolver:
    """All containers of the root that resolve names."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.directory = Directory(root)
        self.clients: set[Client] = set()
        self.listener = socket.socket(fileno=names.LISTENER)
        self.listener.setblocking(False)
        self.done = asyncio.Event()

    async def run(self) -> None:
        """Serve until there was nobody to serve for a while."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.listener, self._admit)
        while not self.done.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE):
                    await self.done.wait()
            if not self.clients:
                self._end_if_idle()

    def _end_if_idle(self) -> None:
        """Under the lock nobody can be about to speak to us."""
        try:
            with locked(names.lock_path(self.root), wait=False):
                self._admit()
                if not self.clients:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(names.socket_path(self.root))
                    self.done.set()
        except FileNotFoundError:  # the state folder itself is gone
            self.done.set()
        except BlockingIOError:
            pass

    def _admit(self) -> None:
        while True:
            try:
                line, _ = self.listener.accept()
            except OSError:
                return
            with line:
                line.settimeout(1.0)
                data, descriptors = receive_with(line, 2)
            if len(descriptors) != 2:
                for descriptor in descriptors:
                    os.close(descriptor)
                continue
            about = json.loads(data)
            monitor = open_process(*about["monitor"])
            if monitor is None:
                for descriptor in descriptors:
                    os.close(descriptor)
                continue
            self.clients.add(Client(self, about["id"], descriptors, monitor))

    def forget(self, client: Client) -> None:
        """It has ended."""
        self.clients.discard(client)

    async def answer(self, asker: str, data: bytes, *, stream: bool) -> bytes | None:
        """The answer to a packet; None for what is no question."""
        try:
            request = DNSRecord.parse(data)
            if request.header.qr or len(request.questions) != 1:
                return None
        except Exception:  # whatever a container may have written
            return None
        own = self._own(asker, request)
        if own is not None:
            return own
        if not self.directory.may_ask_outside(asker):
            reply = request.reply(ra=1)
            reply.header.rcode = RCODE.REFUSED
            return bytes(reply.pack())
        for server in self.directory.servers(asker):
            answer = await (_ask_stream if stream else _ask_datagram)(server, data)
            if answer is not None:
                return answer
        reply = request.reply(ra=1)
        reply.header.rcode = RCODE.SERVFAIL
        return bytes(reply.pack())

    def _own(self, asker: str, request: Any) -> bytes | None:
        """The answer from our own records; None when they have none."""
        name, kind = str(request.q.qname), request.q.qtype
        reply = request.reply(ra=1, aa=0)
        if kind == QTYPE.PTR:
            address = _address_of(name)
            host = self.directory.name_of(asker, address) if address else None
            if host is None:
                return None
            reply.add_answer(RR(request.q.qname, QTYPE.PTR, rdata=PTR(host), ttl=TTL))
            return bytes(reply.pack())
        family = socket.AF_INET6 if kind == QTYPE.AAAA else socket.AF_INET
        found = self.directory.addresses(asker, name, family)
        if found is None:
            return None
        if kind in (QTYPE.A, QTYPE.AAAA):
            make = A if kind == QTYPE.A else AAAA
            for address in found:
                reply.add_answer(RR(request.q.qname, kind, rdata=make(address), ttl=TTL))
        return bytes(reply.pack())


def _address_of(name: str) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, or ""."""
    labels = name.rstrip(".").lower().split(".")
    if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
        address = ".".join(reversed(labels[:4]))
    elif labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
        digits = "".join(reversed(labels[:32]))
        address = ":".join(digits[at : at + 4] for at in range(0, 32, 4))
    else:
        return ""
    found = parse(address)
    if found is None:
        return ""
    return address if found[0] == 32 else socket.inet_ntop(socket.AF_INET6, found[1].to_bytes(16, "big"))


async def _ask_datagram(server: str, data: bytes) -> bytes | None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    own = os.urandom(2)
    with socket.socket(family, socket.SOCK_DGRAM) as plug:
        plug.setblocking(False)
        try:
            plug.connect((server, names.PORT))  # a port of its own, and answers from this server only
            await loop.sock_sendall(plug, own + data[2:])
            async with asyncio.timeout(_PATIENCE):
                while True:
                    answer = await loop.sock_recv(plug, 65535)
                    if answer[:2] == own:
                        return data[:2] + answer[2:]
        except (OSError, TimeoutError):
            return None


async def _ask_stream(server: str, data: bytes) -> bytes | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(server, names.PORT)
            try:
                writer.write(len(data).to_bytes(2, "big") + data)
                size = int.from_bytes(await reader.readexactly(2), "big")
                return await reader.readexactly(size)
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError):
        return None


def main() -> None:
    """Serve the root that the arguments name."""
    path, run, identity = sys.argv[1:]
    os.chdir("/")
    os.umask(0o077)
    libc.prctl(Prctl.SET_NO_NEW_PRIVS, 1)
    libc.capset(0, 0, 0)
    root = Root(path, run, identity)

    async def serve() -> None:
        await Resolver(root).run()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
