"""What the kernel holds the node's processes to: real processes, in real namespaces, that try what they must not.

Needs root or unprivileged user namespaces.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from polyward_client.isolation.already import is_out_of_reach
from polyward_client.isolation.entering import enter
from polyward_client.isolation.kernel import NEW_USER, give_up_privileges
from polyward_client.isolation.mounts import Mount, places_of, read_mounts
from polyward_client.isolation.plan import Plan
from polyward_client.parts import PARTS, Part, child_of, make_folders, plan_of, start_of, users_of
from polyward_client.port.connect import RemoteTrainer
from polyward_client.site import Site, read_site
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.supervise import end_all, start

NOBODY = 65534
LAYOUTS = {  # the site's file, the state and the images, of which any may lie in any other
    "beside": ("site.toml", "keep", "images"),
    "state in the images": ("images/site.toml", "images/keep", "images"),
    "state deep in the images": ("images/a/site.toml", "images/a/b/keep", "images"),
    "images in the state": ("site.toml", "keep", "keep/images"),
}


def made(folder: Path, layout: str = "beside", extra: str = "", user: int | None = None) -> Site:
    """A site with an image, an image in its cache, and a key of its node."""
    file, state, images = (folder / name for name in LAYOUTS[layout])
    for each in (file.parent, images / "doe_john"):
        each.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'name = "a"\nstate = "{state}"\n[data]\nroot = "{images}"\n[hub]\naddress = "127.0.0.1:1"\n{extra}'
    )
    (file.parent / "ca.pem").write_text("ca")
    (images / "doe_john" / "1.png").write_bytes(b"image")
    site = read_site(file)
    make_folders(site)
    site.cache.mkdir()
    (site.cache / "1.npy").write_bytes(b"image")
    site.key.write_text("key")
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user)
    return site


@pytest.fixture(params=["as ourselves", "as nobody"])
def folder(request: pytest.FixtureRequest) -> Iterator[tuple[Path, int | None]]:
    """A folder, and the user who runs there, which is another one in the second case."""
    user = None if request.param == "as ourselves" else NOBODY
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can be somebody else; the first case has shown it for this user")
    place = Path(tempfile.mkdtemp(prefix="isolation-"))
    place.chmod(0o755)
    yield place, user
    shutil.rmtree(place)


def attempts(script: str, arguments: Sequence[object]) -> str:
    """Runs a script with `attempt(name, call)` and `arguments` in it; what came of each attempt, as JSON."""
    found: dict[str, Any] = {}

    def attempt(name: str, call: Callable[[], Any]) -> None:
        try:
            found[name] = call()
        except OSError as error:
            found[name] = f"{type(error).__name__}: {error.errno}"

    exec(script, {"attempt": attempt, "arguments": [str(a) for a in arguments], "os": os, "socket": socket})  # noqa: S102
    return json.dumps(found)


def tried(site: Site, part: Part, script: str, *arguments: object, user: int | None = None) -> dict[str, Any]:
    """What came of a script's attempts in a process that is isolated like the part."""
    with isolated(site, part, script, *arguments, user=user) as (_, found):
        assert "error" not in found, found
        return found


@contextmanager
def isolated(
    site: Site,
    part: Part,
    script: str,
    *arguments: object,
    user: int | None = None,
    before: Callable[[Plan], None] = lambda _: None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """A process that is isolated like the part, has run a script and waits; its id and what came of the attempts.

    A copy of this process, since another user may not start the interpreter that runs the tests.
    """
    plan, (reader, writer), (waits, ends) = plan_of(site, part), os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ends)
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
                ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which starting a program would set again
            os.chdir(site.port)
            before(plan)
            enter(plan)
            os.write(writer, attempts(script, arguments).encode())
        except BaseException as error:
            os.write(writer, json.dumps({"error": repr(error)}).encode())
        os.close(writer)
        os.read(waits, 1)
        os._exit(0)
    os.close(writer)
    os.close(waits)
    with os.fdopen(reader, "rb") as pipe:
        found = json.loads(pipe.read())
    try:
        yield child, found
    finally:
        os.close(ends)
        os.waitpid(child, 0)


ABSTRACT = f"polyward-test-{os.getpid()}"  # a name of this process's own: tests may run beside one another
TRAINER = """
root, state, port = arguments
image = root + '/doe_john/1.png'
attempt('tcp', lambda: socket.create_connection(('127.0.0.1', int(port)), 2) and 'connected')
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: return s.sendto(b'x', ('127.0.0.1', int(port)))
attempt('udp', send)
attempt('name', lambda: socket.getaddrinfo('hub.example.org', 443) and 'resolved')
attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect('\\0ABSTRACT'))
attempt('read', lambda: open(image).read())
attempt('write', lambda: open(root + '/new', 'w') and 'written')
attempt('overwrite', lambda: open(image, 'r+') and 'written')
attempt('delete', lambda: os.unlink(image))
attempt('rename', lambda: os.rename(root + '/doe_john', root + '/gone'))
attempt('keep', lambda: open(state + '/trainer/new', 'w').write('x'))
attempt('meet', lambda: open(state + '/port/new', 'w').write('x'))
attempt('key', lambda: open(state + '/gate/node.key').read())
attempt('sockets', lambda: sorted(os.listdir('/run')))
attempt('capabilities', lambda: [l.split()[1] for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNew'))])
""".replace("ABSTRACT", ABSTRACT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_trainer_has_images_to_read_and_no_network(folder: tuple[Path, int | None], layout: str) -> None:
    where, user = folder
    site = made(where, layout, user=user)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{ABSTRACT}")
        abstract.listen()
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 2).close()  # the server is there, for who has a network
        found = tried(site, "trainer", TRAINER, site.root, site.state, port, user=user)
    assert found.pop("tcp") == "OSError: 101"  # network is unreachable
    assert found.pop("udp") == "OSError: 101"
    assert found.pop("name").startswith("gaierror")
    assert found.pop("abstract").startswith("ConnectionRefusedError")
    assert found.pop("read") == "image"
    assert {found.pop(name) for name in ("write", "overwrite", "delete", "rename")} == {"OSError: 30"}  # read-only
    assert (found.pop("keep"), found.pop("meet")) == (1, 1)
    assert found.pop("key").startswith("FileNotFoundError")
    assert found.pop("sockets") == []
    assert found.pop("capabilities") == ["0" * 16] * 5 + ["1"]
    assert not found
    assert (site.root / "doe_john" / "1.png").read_bytes() == b"image"


CHANGES = """
state, file, home, program = arguments
attempt('approve', lambda: open(state + '/approved/decisions.jsonl', 'a'))
attempt('resume', lambda: os.unlink(state + '/paused'))
attempt('policy', lambda: open(file, 'a'))
attempt('another state', lambda: os.rename(state, state + '.old'))
attempt('another site', lambda: os.rename(os.path.dirname(file), os.path.dirname(file) + '.old'))
attempt('home', lambda: open(home + '/.profile', 'w'))
attempt('program', lambda: os.access(program, os.W_OK))
"""


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_neither_part_can_change_what_people_decided_nor_the_programs(
    folder: tuple[Path, int | None], layout: str, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever broke into the trainer could approve a study by which images leave as arrays of the encoder."""
    where, user = folder
    home, inner = where / "home", where / "inner"
    home.mkdir()
    inner.mkdir()
    monkeypatch.setenv("HOME", str(home))
    site = made(inner, layout, user=user)
    site.paused.touch()
    found = tried(site, part, CHANGES, site.state, site.path, home, sys.prefix, user=user)
    assert found.pop("program") is False
    assert set(found.values()) == {"OSError: 30"}, found  # read-only
    assert len(found) == 6
    assert start_of(site, part).environment["TMPDIR"] == str(site.gate if part == "gate" else site.trainer)


@contextmanager
def in_plain_view(folder: Path, user: int | None) -> Iterator[int]:
    """A process of the same user, without any isolation, that works among the images."""
    with subprocess.Popen(["/bin/sh", "-c", "exec 3<doe_john/1.png; exec sleep 60"], cwd=folder, user=user) as process:
        try:
            yield process.pid
        finally:
            process.kill()


GATE = """
root, state, link, port, *others = arguments
attempt('tcp', lambda: socket.create_connection(('127.0.0.1', int(port)), 2) and 'connected')
attempt('image', lambda: open(root + '/doe_john/1.png').read())
attempt('link', lambda: open(link).read())
attempt('from below', lambda: open(os.path.relpath(root, state + '/port') + '/doe_john/1.png').read())
attempt('cache', lambda: open(state + '/trainer/cache/1.npy').read())
for pid in others:
    attempt('root of ' + pid, lambda: open('/proc/' + pid + '/root' + root + '/doe_john/1.png').read())
    attempt('folder of ' + pid, lambda: os.listdir('/proc/' + pid + '/cwd'))
    attempt('open file of ' + pid, lambda: os.open('/proc/' + pid + '/fd/3', os.O_RDONLY))
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
attempt('unmount', lambda: libc.umount2(root.encode(), 2))
libc.unshare(0x10000000 | 0x00020000)
attempt('unmount as another user', lambda: libc.umount2(root.encode(), 2))
attempt('image after that', lambda: open(root + '/doe_john/1.png').read())
attempt('write', lambda: open(state + '/gate/new', 'w').write('x'))
attempt('key', lambda: open(state + '/gate/node.key').read())
attempt('ca', lambda: open(os.path.dirname(link) + '/ca.pem').read())
"""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gate_has_the_network_and_no_image_by_any_path(folder: tuple[Path, int | None], layout: str) -> None:
    where, user = folder
    site = made(where, layout, user=user)
    link = site.path.parent / "link.png"
    link.symlink_to(site.root / "doe_john" / "1.png")
    holding = "image = os.open(arguments[0] + '/doe_john/1.png', os.O_RDONLY); attempt('open', lambda: image)"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        isolated(site, "trainer", holding, site.root, user=user) as (trainer, opened),  # one like the trainer
        in_plain_view(site.root, user) as plain,
    ):
        assert "error" not in opened
        pids = [str(pid) for pid in (trainer, plain, os.getpid())]
        found = tried(site, "gate", GATE, site.root, site.state, link, server.getsockname()[1], *pids, user=user)
    assert found.pop("tcp") == "connected"
    for name in ("image", "link", "from below", "cache", "image after that"):
        assert found.pop(name).startswith("FileNotFoundError"), name
    for pid in pids:
        assert found.pop(f"root of {pid}") == "PermissionError: 13"
        assert found.pop(f"folder of {pid}") == "PermissionError: 13"
        assert found.pop(f"open file of {pid}") == "PermissionError: 13"
    assert (found.pop("unmount"), found.pop("unmount as another user")) == (-1, -1)
    assert (found.pop("write"), found.pop("key")) == (1, "key")
    assert found.pop("ca") == "ca"
    assert not found


def test_the_trainer_answers_on_its_socket_from_within(tmp_path: Path) -> None:
    """The whole process as the node starts it, and the gate's end of the port outside."""
    site = made(tmp_path)
    process = start(child_of(site, start_of(site, "trainer")))
    here = Path.cwd()
    try:
        os.chdir(site.port)
        trainer = RemoteTrainer(site.socket)
        with pytest.raises(Refused) as refused:
            trainer.describe("0" * 64)
        trainer.close()
        assert refused.value.code is Code.STUDY_NOT_APPROVED
        assert stat.S_IMODE(site.socket.stat().st_mode) == 0o600
        assert Path(f"/proc/{process.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    finally:
        os.chdir(here)
        end_all([process])
    assert process.returncode == 0


def test_a_folder_that_is_mounted_twice_is_hidden_at_both_places() -> None:
    """/mnt/disk/site/images is also at /home/images; a third mount shows only a part of the images."""
    mounts = [
        Mount("8:1", "/", "/"),
        Mount("8:2", "/", "/mnt/disk"),
        Mount("8:2", "/site/images", "/nowhere/images"),
        Mount("8:2", "/site/images/doe", "/usr"),
        Mount("8:2", "/other", "/etc"),
    ]
    assert places_of("/mnt/disk/site/images", mounts) == {"/mnt/disk/site/images", "/usr"}  # of those that exist here


def test_a_kept_mount_below_the_images_is_no_image() -> None:
    mounts = [Mount("8:1", "/", "/"), Mount("8:2", "/", "/usr/lib"), Mount("8:2", "/", "/etc")]
    assert places_of("/usr", mounts) == {"/usr", "/usr/lib", "/etc"}
    assert places_of("/usr", mounts, keep=["/usr/lib"]) == {"/usr"}


def test_mounts_are_read() -> None:
    assert any(mount.point == "/proc" for mount in read_mounts())


def no_more_namespaces(plan: Plan) -> None:
    """As in a container: root, but of a user namespace that may have no others below it."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    assert libc.unshare(NEW_USER) == 0
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path(f"/proc/self/{file}").write_text(text, encoding="utf-8")
    Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="utf-8")


def no_more_privileges(plan: Plan) -> None:
    no_more_namespaces(plan)
    give_up_privileges()


def isolated_by_others(plan: Plan) -> None:
    no_more_namespaces(plan)
    enter(plan)


@pytest.mark.parametrize("part", PARTS)
def test_where_the_system_refuses_the_part_does_not_start_and_says_what_to_do(tmp_path: Path, part: Part) -> None:
    with isolated(made(tmp_path), part, "", before=no_more_privileges) as (_, found):
        problem = found["error"]
    assert f"the {part}: the system does not let it be isolated" in problem
    for remedy in ("user.max_user_namespaces", "polyward-node service --two-users", "require = false"):
        assert remedy in problem


@pytest.mark.parametrize("part", PARTS)
def test_it_is_enough_that_the_machine_already_is_so(tmp_path: Path, part: Part) -> None:
    """The second attempt can change nothing any more, and finds that nothing is to be changed."""
    site = made(tmp_path)
    with isolated(site, part, "attempt('privileges', lambda: os.geteuid())", before=isolated_by_others) as (_, found):
        assert found == {"privileges": 0}


def test_out_of_reach_is_what_holds_nothing_but_what_is_kept(tmp_path: Path) -> None:
    """As in a container where the site's file and folder lie among images that are not mounted."""
    keep = [str(tmp_path / "a" / "keep"), str(tmp_path / "site.toml")]
    (tmp_path / "a" / "keep" / "gate").mkdir(parents=True)
    (tmp_path / "site.toml").touch()
    assert is_out_of_reach(str(tmp_path), keep)
    assert not is_out_of_reach(str(tmp_path), keep[:1])
    (tmp_path / "a" / "1.png").touch()
    assert not is_out_of_reach(str(tmp_path), keep)
    assert is_out_of_reach(str(tmp_path / "none"), [])
    assert is_out_of_reach("/dev/null", [])
    assert not is_out_of_reach(str(tmp_path / "a" / "1.png"), [])


def test_read_only_is_what_has_no_writable_mount_below(tmp_path: Path) -> None:
    """Engines up to Docker 24 make of a tree of mounts only the uppermost read-only."""
    script = """
        mount -t tmpfs images "$1"; mkdir "$1/disk"; mount -t tmpfs disk "$1/disk"
        "$2" -c "$3" "$1"; mount -o remount,ro "$1"; "$2" -c "$3" "$1"; mount -o remount,ro "$1/disk"; "$2" -c "$3" "$1"
    """
    look = (
        "import sys; from polyward_client.isolation.already import is_read_only as read_only; folder = sys.argv[1]; "
        "print(read_only(folder, ()), read_only(folder, (folder + '/disk',)))"
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]
    done = subprocess.run([*command, tmp_path, sys.executable, look], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False False", "False True", "True True"]


def test_off_means_off_but_for_privileges(tmp_path: Path) -> None:
    site = made(tmp_path, extra="[isolation]\nrequire = false\n")
    assert not plan_of(site, "trainer").require
    found = tried(site, "trainer", TRAINER, site.root, site.state, 9)
    assert found["tcp"].startswith("ConnectionRefusedError")  # the loopback is there
    assert found["key"] == "key"
    assert found["capabilities"] == ["0" * 16] * 5 + ["1"]


def test_limits_hold(tmp_path: Path) -> None:
    site = made(tmp_path, extra="[limits]\nmemory_gigabytes = 3\nnice = 7\n")
    script = """
def take():
    try: return len(bytearray(4 << 30))
    except MemoryError: return 'refused'
attempt('memory', take)
attempt('nice', lambda: os.nice(0))
"""
    assert tried(site, "trainer", script) == {"memory": "refused", "nice": os.nice(0) + 7}


@pytest.mark.parametrize("root", [".", "keep", "keep/trainer", "/"])
def test_images_among_what_the_site_keeps_are_refused(tmp_path: Path, root: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(f'name = "a"\nstate = "{"keep" if root != "." else "."}"\n[data]\nroot = "{root}"\n')
    with pytest.raises(Problem, match=r"data.root: found .* which also holds what the site keeps"):
        plan_of(read_site(file), "gate")


def test_users_that_are_not_there(tmp_path: Path) -> None:
    site = made(tmp_path)
    assert users_of(site) == {}
    extra = '[isolation]\ngate_user = "nobody"\n'
    with pytest.raises(Problem, match=r"isolation.trainer_user: is missing"):
        users_of(read_site(with_lines(site, extra)))
    site = made(tmp_path / "b")
    path = with_lines(site, '[isolation]\ngate_user = "nobody"\ntrainer_user = "no-such-user"\n')
    with pytest.raises(Problem, match=r"has no user 'no-such-user'|only root can start"):
        users_of(read_site(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_folders_of_two_users(tmp_path: Path) -> None:
    """`nobody` and `daemon` are on every machine. What root put there is handed over, links elsewhere are not."""
    site = made(tmp_path)
    elsewhere = tmp_path / "of root"
    elsewhere.write_text("secret")
    (site.trainer / "link").symlink_to(elsewhere)
    os.link(elsewhere, site.trainer / "hard link")
    (site.logs / "trainer.log.1").touch(mode=0o600)
    site = read_site(with_lines(site, '[isolation]\ngate_user = "nobody"\ntrainer_user = "daemon"\n'))
    make_folders(site)
    users = users_of(site)
    gate, trainer = users["gate"], users["trainer"]
    assert gate.group in trainer.groups
    for path, owner, group, mode in (
        (site.gate, gate.id, gate.group, 0o700),
        (site.key, gate.id, gate.group, 0o644),
        (site.trainer, trainer.id, trainer.group, 0o700),
        (site.cache / "1.npy", trainer.id, trainer.group, 0o644),
        (site.port, gate.id, gate.group, 0o2770),
        (site.approved, 0, gate.group, 0o2750),
        (site.logs, 0, gate.group, 0o3770),
        (site.logs / "trainer.log.1", trainer.id, trainer.group, 0o600),
        (elsewhere, 0, 0, 0o644),
    ):
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner, group, mode), path


def with_lines(site: Site, extra: str) -> Path:
    site.path.write_text(site.path.read_text() + extra)
    return site.path
