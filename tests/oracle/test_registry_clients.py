"""Docker, podman, skopeo, buildah and umoci push to our server and pull from it, and from each other so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import COMMAND, Host
from tests.support.registries import PASSWORD, USER, Authority, TokenServer, htpasswd, own_registry, trust

pytestmark = pytest.mark.oracle


def run(*command: str, input: str = "") -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, input=input)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Site:
    """A server of ours with an image in it, and how each client is to talk to it."""

    def __init__(self, host: Host, folder: Path, address: str, authority: Authority | None, login: bool) -> None:
        self.host, self.folder, self.address, self.login = host, folder, address, login
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        self.secure = authority is not None
        if authority:
            shutil.copy(authority.certificate, self.certificates / "ca.crt")
            trust(host, address, authority)
        host.environment["DOCKER_CONFIG"] = str(folder / "ours")
        if login:
            host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        self.image = host.ok("images", "-q", "--no-trunc", "busybox").strip()
        host.ok("tag", "busybox", self.name("specrun"))
        host.ok("push", self.name("specrun"))

    def name(self, tag: str) -> str:
        return f"{self.address}/team/app:{tag}"

    def options(self, side: str = "") -> list[str]:
        """Of podman, buildah and skopeo."""
        if not self.secure:
            return [f"--{side}tls-verify=false"]
        found = [f"--{side}cert-dir", str(self.certificates)]
        return [*found, f"--{side}authfile", str(self.folder / "auth.json")] if self.login else found

    def works(self, tag: str) -> None:
        """What a client has pushed is the image that we had pushed, and can be pulled and run."""
        self.host.ok("rmi", "-f", self.name(tag))
        assert self.host.ok("pull", "-q", self.name(tag)).strip() == self.name(tag)
        assert self.host.ok("run", "--rm", "--network", "none", self.name(tag), "echo", tag) == f"{tag}\n"


@pytest.fixture(params=["plain", "password over TLS", "tokens over TLS"])
def site(request: pytest.FixtureRequest, host: Host, tmp_path: Path) -> Iterator[Site]:
    storage = tmp_path / "storage"
    if request.param == "plain":
        with own_registry(storage) as address:
            yield Site(host, tmp_path, address, None, login=False)
    else:
        authority = Authority(tmp_path / "authority")
        tokens = TokenServer(authority) if request.param.startswith("tokens") else None
        users = None if tokens else htpasswd(tmp_path / "users")
        with own_registry(storage, tls=authority, users=users, tokens=tokens) as address:
            yield Site(host, tmp_path, address, authority, login=True)
        if tokens:
            tokens.close()
    done = subprocess.run([COMMAND, "registry", "fsck", "--storage", storage], capture_output=True, text=True)
    assert done.stdout.endswith(" 0 problems\n")


def dockers() -> list[str]:
    """The command lines there are: Debian's 20.10, and a newer one where it is installed."""
    folders = os.environ["PATH"].split(":")
    return sorted({os.path.realpath(found) for folder in folders if (found := shutil.which("docker", path=folder))})


def docker(site: Site, program: str) -> None:
    """Through a daemon of its own, of version 20.10."""
    certificates = Path("/etc/docker/certs.d") / site.address
    if site.secure:
        shutil.copytree(site.certificates, certificates)
    words = [program, "--config", str(site.folder / "docker")]
    try:
        if site.login:
            run(*words, "login", "-u", USER, "--password-stdin", site.address, input=PASSWORD)
        run(*words, "pull", site.name("specrun"))
        run(*words, "tag", site.name("specrun"), site.name("docker"))
        run(*words, "push", site.name("docker"))
        run(*words, "rmi", site.name("docker"), site.name("specrun"))
        run(*words, "pull", site.name("docker"))
        assert run(*words, "images", "-q", "--no-trunc", site.name("docker")).strip() == site.image
        run(*words, "rmi", site.name("docker"))
    finally:
        shutil.rmtree(certificates, ignore_errors=True)
    site.works("docker")


def storage_of(program: str, site: Site) -> list[str]:
    """podman and buildah, with images of their own."""
    short = f"{site.host.folder}/{program}"  # podman takes no long one
    return [program, "--root", short, "--runroot", f"{short}-run", "--storage-driver", "vfs"]


def podman_or_buildah(program: str, site: Site) -> None:
    words = storage_of(program, site)
    if site.login:
        run(program, "login", *site.options(), "-u", USER, "--password-stdin", site.address, input=PASSWORD)
    run(*words, "pull", "-q", *site.options(), site.name("specrun"))
    run(*words, "tag", site.name("specrun"), site.name(program))
    run(*words, "push", "-q", *site.options(), site.name(program))
    run(*words, "rmi", site.name(program), site.name("specrun"))
    run(*words, "pull", "-q", *site.options(), site.name(program))
    assert site.image.removeprefix("sha256:") in run(*words, "images", "-q", "--no-trunc")
    run(*words, "rmi", "-a")
    site.works(program)


def skopeo_and_umoci(site: Site) -> None:
    """umoci edits what skopeo has fetched."""
    copy = ["skopeo", "copy", "-q", "--insecure-policy"]
    layout = f"{site.folder}/layout"
    run(*copy, *site.options("src-"), f"docker://{site.name('specrun')}", f"oci:{layout}:here")
    run("umoci", "config", "--image", f"{layout}:here", "--tag", "edited", "--config.env", "EDITED=yes")
    run(*copy, *site.options("dest-"), f"oci:{layout}:edited", f"docker://{site.name('umoci')}")
    both = [*site.options("src-"), *site.options("dest-")]
    run(*copy, *both, f"docker://{site.name('specrun')}", f"docker://{site.address}/other/app:skopeo")
    found = run("skopeo", "list-tags", *site.options(), f"docker://{site.address}/team/app")
    assert '"umoci"' in found and '"specrun"' in found
    site.works("umoci")
    name = site.name("umoci")
    assert site.host.ok("run", "--rm", "--network", "none", name, "sh", "-c", "echo $EDITED") == "yes\n"
    run("skopeo", "delete", *site.options(), f"docker://{site.address}/other/app:skopeo")


def test_real_clients(site: Site) -> None:
    ran = []
    if "DOCKER_HOST" in os.environ:
        for program in dockers():
            docker(site, program)
            ran.append(program)
    for program in ("podman", "buildah"):
        if shutil.which(program):
            podman_or_buildah(program, site)
            ran.append(program)
    if shutil.which("skopeo") and shutil.which("umoci"):
        skopeo_and_umoci(site)
        ran.append("skopeo")
    if not ran:
        pytest.skip("no other client is installed")
