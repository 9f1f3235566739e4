"""Builds on the real kernel: the Dockerfile reference heading by heading, the cache, the classic output, failures."""

from __future__ import annotations

import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile  # noqa: TID251 (archives of our own making)
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Host


class Context:
    """A build context, and what is built from it."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def build(self, dockerfile: str, *options: str) -> str:
        """Build it as `image`; gives the output."""
        self.write("Dockerfile", dockerfile)
        return self.host.ok("build", "-t", "image", *options, str(self.folder))

    def fails(self, dockerfile: str, *options: str) -> tuple[str, str, int]:
        """A build that must fail; gives output, errors and status."""
        self.write("Dockerfile", dockerfile)
        done = self.host.run("build", "-t", "image", *options, str(self.folder))
        assert done.returncode, done.stdout
        return done.stdout.decode(), done.stderr.decode(), done.returncode

    def inside(self, command: str) -> str:
        """What a shell in the image prints."""
        return self.host.ok("run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", "image", "-c", command)

    def config(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.host.ok("inspect", "image"))[0]["Config"]
        return found


@pytest.fixture
def context(host: Host, tmp_path: Path) -> Context:
    folder = tmp_path / "context"
    folder.mkdir()
    return Context(host, folder)


def test_from_with_stages_arguments_and_scratch(context: Context) -> None:
    context.write("a", "from a\n")
    output = context.build(
        "ARG BASE=busybox\nFROM $BASE AS one\nCOPY a /a\nFROM busybox AS unused\nRUN false\n"
        "FROM scratch AS two\nCOPY --from=one /a /b\nFROM one\nCOPY --from=two /b /c\n"
    )
    assert "RUN false" not in output
    assert context.inside("cat /a /c") == "from a\nfrom a\n"


def test_the_output_is_that_of_the_classic_builder(context: Context) -> None:
    context.write("file", "x")
    text = "FROM busybox\nADD file /file\nRUN echo hi\nCMD cat /file\n"
    lines = context.build(text).splitlines()
    assert [line for line in lines if not line.startswith(" ---> ")][:4] == [
        "Step 1/4 : FROM busybox",
        "Step 2/4 : ADD file /file",
        "Step 3/4 : RUN echo hi",
        "hi",
    ]
    assert any(line.startswith(" ---> Running in ") for line in lines)
    assert any(line.startswith("Removing intermediate container ") for line in lines)
    identity = lines[-2].removeprefix("Successfully built ")
    assert lines[-3] == f" ---> {identity}"
    assert lines[-1] == "Successfully tagged image:latest"
    again = context.build(text).splitlines()
    assert again.count(" ---> Using cache") == 3
    assert again[-2] == lines[-2]
    assert context.host.ok("images", "-q", "--no-trunc", "image").strip().startswith(f"sha256:{identity}")


def test_a_network_that_is_not_there_is_refused_before_anything_is_built(context: Context) -> None:
    text = "FROM busybox\nRUN echo x > /x\n"
    context.build(text, "--network=none")
    for network, words in (("absent", "network absent not found"), ("container:absent", "No such container: absent")):
        output, errors, status = context.fails(text, f"--network={network}")
        assert (output, status) == ("", 1) and words in errors
    context.host.ok("network", "create", "absent")
    assert "Using cache" in context.build(text, "--network=absent")


def test_quiet_and_the_files_that_tell_the_result(context: Context, tmp_path: Path) -> None:
    output = context.build(
        "FROM busybox\nRUN echo noise\n", "-q", f"--iidfile={tmp_path}/id", "--metadata-file", f"{tmp_path}/m"
    )
    assert output.startswith("sha256:") and output.count("\n") == 1
    assert (tmp_path / "id").read_text() == output.strip()
    assert json.loads((tmp_path / "m").read_text())["containerimage.config.digest"] == output.strip()


def test_run_forms_shell_and_here_documents(context: Context) -> None:
    context.build(
        'FROM busybox\nRUN echo shell > /a\nRUN ["/bin/sh", "-c", "echo $0 > /b", "word"]\n'
        'SHELL ["/bin/sh", "-ec"]\nRUN false | true; echo c > /c\n'
        "RUN <<EOF\necho one > /d\necho two >> /d\nEOF\nRUN <<EOF cat > /e\nfive $((2+3))\nEOF\n"
        "RUN <<'EOF'\n#!/bin/sh\necho program > /f\nEOF\nCOPY <<EOF /g\nhello ${PATH%%:*}\nEOF\n"
    )
    assert context.inside("cat /a /b /c /d /e /f /g") == (
        "shell\nword\nc\none\ntwo\nfive 5\nprogram\nhello /usr/local/sbin\n"
    )


def test_mounts_of_run_leave_nothing_behind(context: Context, tmp_path: Path) -> None:
    context.write("data/x", "from the context\n")
    (tmp_path / "secret").write_text("hidden")
    text = (
        "FROM busybox AS other\nRUN mkdir /out && echo other > /out/y\nFROM busybox\n"
        "RUN --mount=target=/ctx cat /ctx/data/x > /a && ! touch /ctx/z\n"
        "RUN --mount=type=bind,from=other,source=/out,target=/deep/er/mnt,rw "
        "touch /deep/er/mnt/new && cat /deep/er/mnt/y > /b\n"
        "RUN --mount=type=tmpfs,target=/t,size=1m mount | grep ' /t ' | grep -c size=1024k > /c\n"
        "RUN --mount=type=cache,target=/cache echo line >> /cache/f && wc -l < /cache/f > /d\n"
        "RUN --mount=type=secret,id=s cp /run/secrets/s /e && ls -ln /run/secrets/s | cut -c1-10 > /f\n"
        "RUN --mount=type=secret,id=s,env=TOKEN test ${#TOKEN} = 6\n"
        "RUN --network=none ip addr | grep -c eth0 > /g || true\n"
    )
    context.build(text, "--secret", f"id=s,src={tmp_path}/secret")
    assert context.inside("cat /a /b /c /d /f /g; ls -d /ctx /deep /t /cache /run 2>&1; true") == (
        "from the context\nother\n1\n1\n-r--------\n0\n"
        + "".join(f"ls: {path}: No such file or directory\n" for path in ("/ctx", "/deep", "/t", "/cache", "/run"))
    )
    context.build(text, "--secret", f"id=s,src={tmp_path}/secret", "--no-cache")
    assert context.inside("cat /d").strip() == "2"
    assert (
        "hidden"
        not in subprocess.run(
            ["grep", "-r", "hidden", str(context.host.root / "build")], capture_output=True, text=True
        ).stdout
    )


def test_copy_with_all_its_flags(context: Context) -> None:
    for name in ("d/a", "d/b.log", "d/sub/c", "x/y/z/file"):
        context.write(name, f"{name}\n")
    context.write("prog", "#!/bin/sh\n", 0o4755)
    os.symlink("a", context.folder / "d/link")
    context.build(
        "FROM busybox\nWORKDIR /w\nCOPY d rel\nCOPY d/a d/sub /many/\nCOPY --chown=www-data:5 --chmod=640 d/a /owned\n"
        "COPY --chmod=u=rwX,go=rX d /modes/\nCOPY --exclude=*.log d /without/\nCOPY --parents x/y/z/file /parents/\n"
        "COPY --parents x/./y/z /pivot/\nCOPY --link d/a /linked/a\nCOPY p*g /wild/\nCOPY prog /\n"
    )
    assert context.inside("cd /w/rel; ls; readlink link; cat sub/c") == "a\nb.log\nlink\nsub\na\nd/sub/c\n"
    assert context.inside("ls /many; stat -c '%a %u %g' /owned; ls /without") == "a\nc\n640 33 5\na\nlink\nsub\n"
    assert context.inside(
        "cat /parents/x/y/z/file /pivot/y/z/file /linked/a; ls /wild; stat -c %a /prog /modes/sub /modes/a"
    ) == ("x/y/z/file\nx/y/z/file\nd/a\nprog\n4755\n755\n644\n")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback over `tmp_path/www`."""
    (tmp_path / "www").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "www"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_add_unpacks_fetches_and_clones(context: Context, web: str, tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as archive:
        for name in ("t/one", "two"):
            member = tarfile.TarInfo(name)
            member.size, member.uid, member.mode = 3, 7, 0o640
            archive.addfile(member, io.BytesIO(b"abc"))
    (context.folder / "pack.tar.xz").write_bytes(content.getvalue())
    (tmp_path / "www" / "page.txt").write_text("fetched\n")
    repository = tmp_path / "repository"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository)]
    repository.mkdir()
    (repository / "sub").mkdir()
    (repository / "sub" / "file").write_text("cloned\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"], ["tag", "v1"], ["update-server-info"]):
        subprocess.run([*git, *words], check=True)
    shutil.copytree(repository / ".git", tmp_path / "www" / "r.git")
    digest = subprocess.run(
        ["sha256sum", tmp_path / "www" / "page.txt"], capture_output=True, text=True
    ).stdout.split()[0]
    context.build(
        f"FROM busybox\nADD pack.tar.xz /unpacked\nADD --unpack=false pack.tar.xz /kept/\n"
        f"ADD --checksum=sha256:{digest} {web}/page.txt /fetched/\nADD {web}/r.git#v1:sub /cloned\n"
    )
    assert context.inside(
        "stat -c '%a %u' /unpacked/t/one /fetched/page.txt; cat /unpacked/two /cloned/file; ls /kept"
    ) == ("640 7\n600 0\nabccloned\npack.tar.xz\n")
    _, errors, _ = context.fails(f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {web}/page.txt /\n")
    assert "checksum" in errors and "Dockerfile:2" in errors
    _, errors, _ = context.fails(f"FROM busybox\nADD {web}/r.git#--upload-pack=x /\n")
    assert "cannot begin with '-'" in errors
    _, errors, _ = context.fails(f"FROM busybox\nADD {web}/none /\n")
    assert "404" in errors


def test_the_configuration_that_instructions_make(context: Context) -> None:
    context.build(
        "FROM busybox\nMAINTAINER me@example.org\nLABEL one=1 two='2 3'\nENV A=1 B=$A\nENV C=${A:-x}y OLD=1\n"
        "ARG D=4\nENV E=$D\n"
        "EXPOSE 80 53/udp\nVOLUME /data [x\nUSER nobody\nWORKDIR /w\nWORKDIR x\nSTOPSIGNAL SIGINT\n"
        "HEALTHCHECK --interval=5s --retries=2 CMD true\nONBUILD RUN echo trigger > /tmp/triggered\n"
        'ENTRYPOINT ["echo"]\nCMD ["a", "b"]\n',
        "--label",
        "three=3",
    )
    config = context.config()
    assert config["Labels"] == {"one": "1", "two": "2 3", "three": "3"}
    assert config["Env"] == [config["Env"][0], "A=1", "B=", "C=1y", "OLD=1", "E=4"]  # type: ignore[index]
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("nobody", "/w/x", "SIGINT")
    assert (config["Entrypoint"], config["Cmd"]) == (["echo"], ["a", "b"])
    assert context.host.ok("run", "--rm", "--network", "none", "image") == "a b\n"
    context.host.ok("build", "-t", "base", str(context.folder))
    output = context.build("FROM base\nUSER root\n", "--no-cache")
    assert "# Executing 1 build trigger" in output


def test_an_argument_that_nothing_consumes_is_warned_of(context: Context) -> None:
    output = context.build(
        "FROM busybox\nARG BUILD1\nENV BUILD1 $BUILD1\n", "--build-arg=ARG1=x", "--build-arg", "HTTP_PROXY=y"
    )
    assert "[Warning] One or more build-args [ARG1] were not consumed\n" in output


def test_dockerignore_hides_files(context: Context) -> None:
    for name in ("a.log", "keep.log", "d/b.log", "c.txt"):
        context.write(name, "x")
    context.write(".dockerignore", "**/*.log\n!keep.log\nDockerfile\n")
    context.build("FROM busybox\nCOPY . /all\n")
    assert context.inside("cd /all; find . -type f | sort") == "./.dockerignore\n./c.txt\n./keep.log\n"
    context.write("Dockerfile.dockerignore", "*.txt\n")
    context.build("FROM busybox\nCOPY . /all\n")
    assert "./c.txt" not in context.inside("cd /all; find . -type f | sort")
    _, errors, _ = context.fails("FROM busybox\nCOPY c.txt /\n")
    assert "excluded by .dockerignore" in errors and "Dockerfile:2:6" in errors


def test_the_cache_knows_what_a_step_depends_on(context: Context) -> None:
    text = "FROM busybox\nARG USED=1\nARG LATER\nCOPY d /d\nRUN echo $USED > /u\n"
    context.write("d/one", "1")
    context.write("d/two", "2")
    context.build(text)
    os.utime(context.folder / "d/one")
    assert context.build(text).count("Using cache") == 4
    context.write("d/two", "changed")
    output = context.build(text, "--explain")
    assert "not cached: file d/two changed" in output
    context.write("d/two", "changed", 0o600)
    assert "file d/two changed" in context.build(text, "--explain")
    output = context.build(text, "--explain", "--build-arg", "USED=2")
    assert "the instruction changed" in output and output.count("Using cache") == 2
    assert "--no-cache was given" in context.build(text, "--explain", "--no-cache")


def test_a_cache_goes_through_a_folder(context: Context, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN head -c 8 /dev/urandom | md5sum > /random\n"
    context.build(text, "--cache-to", f"type=local,dest={tmp_path}/cache")
    before = context.inside("cat /random")
    context.host.ok("image", "assemble", "busybox")
    for folder in ("build", "layers"):
        shutil.rmtree(context.host.root / folder)
        (context.host.root / folder).mkdir()
    assert "Using cache" in context.build(text, "--cache-from", str(tmp_path / "cache"))
    assert context.inside("cat /random") == before


def test_two_builds_give_one_digest(context: Context) -> None:
    context.write("f", "x")
    text = "FROM busybox\nCOPY f /f\nRUN mkdir /made && date > /dev/null && touch /made/b /made/a\n"
    context.write("Dockerfile", text)
    assert context.host.ok("build", "--verify", str(context.folder)).startswith("Verified: both builds gave sha256:")
    context.write("Dockerfile", text + "RUN head -c 8 /dev/urandom > /made/random\n")
    done = context.host.run("build", "--verify", str(context.folder))
    assert done.returncode == 1 and b"made/random differs in content" in done.stderr


def test_a_failed_step_says_where_and_keeps_nothing(context: Context) -> None:
    output, errors, status = context.fails("FROM busybox\nRUN true\nRUN echo last words; exit 3\nRUN echo never\n")
    assert status == 3 and "last words\n" in output and "never" not in output.replace("RUN echo never", "")
    assert "The command '/bin/sh -c echo last words; exit 3' returned a non-zero code: 3" in errors
    assert "Dockerfile:3:1" in errors and "| ^~~" in errors
    assert context.host.containers() == []
    assert context.host.run("inspect", "image").returncode
    assert os.listdir(context.host.root / "build" / "work") == []
    assert context.build("FROM busybox\nRUN true\n").count("Using cache") == 1


@pytest.mark.parametrize("text", ['RUN ["none-such"]', "USER none-such\nRUN true"])
def test_a_step_that_cannot_be_started_leaves_no_container(context: Context, text: str) -> None:
    _, errors, _ = context.fails(f"FROM busybox\n{text}\n", "--network=none")
    assert "could not be started" in errors
    assert context.host.containers() == []
    assert os.listdir(context.host.root / "build" / "work") == []


def test_a_wrong_mount_is_refused_before_the_steps_above_are_made(context: Context) -> None:
    output, errors, _ = context.fails("FROM busybox\nRUN true\nRUN --mount=type=bnd,target=/x true\n")
    assert "Running in" not in output and "Dockerfile:3:18" in errors


def test_a_shell_opens_where_a_step_failed(context: Context) -> None:
    context.write("Dockerfile", "FROM busybox\nRUN echo here > /left; false\n")
    done = context.host.run("build", "--on-error=shell", str(context.folder), input=b"cat /left\nexit\n")
    assert done.returncode == 1 and b"here\n" in done.stdout


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM busybox\nRUNN true\n", 2, "did you mean RUN?"),
        ("RUN true\n", 1, "no build stage"),
        ("FROM busybox\n\nCOPY a\n", 3, "at least two arguments"),
        ("FROM busybox\nCOPY none /\n", 2, "file not found in build context"),
        ("FROM busybox\nCOPY ../x /\n", 2, "forbidden path outside the build context"),
        ("FROM busybox\nCOPY --from=none-such /a /\n", 2, "No such image: none-such"),
        ("FROM busybox\nCOPY --from=3 /a /\n", 2, "no stage of that number"),
        ("FROM none-such\n", 1, "No such image"),
        ("ARG A=b@c\n\nFROM a$A\n", 3, "'c' is not a digest"),
        ("FROM busybox\nADD http://127.0.0.1:1/a /\n", 2, "cannot fetch http://127.0.0.1:1/a: Connection refused ["),
        ("FROM busybox AS a\nCOPY --from=a /x /\n", 1, "circular dependency"),
        ("FROM busybox\nRUN --mount=type=bind,target=/x,bind-propagation=shared true\n", 2, "unexpected key"),
        ("FROM busybox\nRUN --security=insecure true\n", 2, "not allowed"),
        ("FROM busybox\nCOPY --chown=nobody-there Dockerfile /\n", 2, "unable to find user"),
        ("FROM busybox\nCOPY Dockerfile Dockerfile /bin/busybox\n", 2, "must be a directory"),
        ("FROM busybox\nSTOPSIGNAL nonsense\n", 2, "invalid signal"),
        ("FROM busybox\nEXPOSE x\n", 2, "invalid containerPort"),
        ("FROM busybox\nENV a='x\n", 2, "single-quote"),
        ("FROM --platform=linux/s390x busybox\n", 1, "this machine runs"),
        ("FROM busybox\nRUN <<EOF\ntrue\n", 2, "unterminated heredoc"),
        ('FROM busybox\nCMD ["a", 1]\n', 2, "strings only"),
    ],
)
def test_mistakes_are_shown_where_they_stand(context: Context, text: str, line: int, words: str) -> None:
    _, errors, _ = context.fails(text)
    assert f"Dockerfile:{line}:" in errors and words in errors


def test_check_warns_without_building(context: Context) -> None:
    context.write("Dockerfile", "FROM busybox as one\nMAINTAINER me\nCMD true\n")
    done = context.host.run("build", "--check", str(context.folder))
    assert done.returncode == 1
    for rule in (b"FromAsCasing", b"MaintainerDeprecated", b"JSONArgsRecommended"):
        assert rule in done.stdout
    _, errors, _ = context.fails("# check=error=true\nFROM busybox as one\n")
    assert "lint violation found for rules: FromAsCasing" in errors


def test_named_contexts(context: Context, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "f").write_text("more\n")
    context.build(
        "FROM base\nCOPY --from=more f /f\n",
        f"--build-context=more={tmp_path}/more",
        "--build-context=base=docker-image://busybox",
    )
    assert context.inside("cat /f") == "more\n"


def test_a_dockerfile_from_stdin(context: Context) -> None:
    output = context.host.ok("build", "-t", "piped", "-", input=b"FROM busybox\nRUN echo piped > /f\n")
    assert "Successfully tagged piped:latest" in output


SPEC = """\
apiVersion: specrun/v1
kind: Build
metadata: {name: app}
spec:
  context: context
  dockerfileInline: |
    FROM middle
    ARG WHO
    COPY greeting /greeting
    RUN --mount=type=secret,id=key test "$(cat /run/secrets/key)" = hidden && echo "$(cat /greeting) $WHO" > /said
  args: {WHO: world}
  secrets: {key: key}
  tags: [app:1]
---
apiVersion: specrun/v1
kind: Secret
metadata: {name: key}
spec: {content: hidden}
---
apiVersion: specrun/v1
kind: Build
metadata: {name: middle}
spec:
  context: context
  dockerfileInline: |
    FROM busybox
    LABEL made=here
  tags: [middle:latest]
---
apiVersion: specrun/v1
kind: Job
metadata: {name: says}
spec:
  image: app:1
  command: [cat, /said]
"""


def test_a_spec_builds_in_order_and_again_when_a_file_changes(context: Context, tmp_path: Path) -> None:
    context.write("greeting", "hello")
    spec = tmp_path / "app.yaml"
    spec.write_text(SPEC)
    assert "hello world\n" in context.host.ok("apply", str(spec))
    assert context.host.run("plan", str(spec)).returncode == 0
    context.write("greeting", "good bye")
    planned = context.host.run("plan", str(spec))
    assert planned.returncode == 2 and b"its files have changed" in planned.stdout
    assert "good bye world\n" in context.host.ok("apply", str(spec))
    context.host.ok("delete", str(spec))
    assert context.host.run("inspect", "app:1").returncode
