"""The engine makes what was wanted, or nothing; a renewal that fails leaves the containers from before at work.

Small containers of the base image; `test_federation` has the node as it is delivered.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from docker.errors import NotFound

from polyward_shared.containers import (
    Mount,
    Wanted,
    connect,
    found,
    logs,
    make,
    network_of,
    renew,
    settle,
    stands,
    start,
    tail,
    take_down,
    wait_until_healthy,
)
from polyward_shared.problems import Problem
from tests.support.engine import ADDRESS, Engine

pytestmark = [pytest.mark.slow, pytest.mark.containers]
BASE = "polyward-base:bookworm"
SECONDS = 60.0
DONE = ("test", "-e", "/tmp/x")  # noqa: S108  # the containers' own


@pytest.fixture
def labels(images: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Of one test's containers and networks, which go with it."""
    monkeypatch.setenv("DOCKER_HOST", images.address)
    own = {"org.polyward.test": uuid.uuid4().hex[:8]}
    yield own
    take_down(images.client, own)


def wanted(labels: dict[str, str], script: str, name: str = "one", **more: object) -> Wanted:
    return Wanted(
        name=f"polyward-test-{labels['org.polyward.test']}-{name}",
        image=BASE,
        command=("bash", "-c", f"trap 'exit 0' TERM; {script}; while true; do sleep 0.2; done"),
        user="10001:10001",
        mounts=(),
        labels=labels,
        **more,  # type: ignore[arg-type]
    )


def healthy(one: Wanted) -> list[str]:
    """What the container says until it is healthy."""
    engine = connect()
    container = make(engine, one)
    start(container)
    wait_until_healthy([container], SECONDS)
    return tail(container, 100)


def test_sealed(labels: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data" / "gate").mkdir(parents=True)
    (tmp_path / "data" / "gate" / "key").write_text("secret")
    (tmp_path / "data" / "image").write_text("image")
    (tmp_path / "keep").mkdir()
    os.chown(tmp_path / "keep", 10001, 10001)
    data, keep = tmp_path / "data", tmp_path / "keep"
    script = f"""
        id; cat {data}/image; ls -A {data}/gate | wc -l
        for place in {data} {data}/gate / /usr/bin {keep} /tmp; do touch $place/x 2>&1 && echo wrote $place; done
        grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; tail -n +3 /proc/net/dev; tail -n +2 /proc/net/route"""
    one = wanted(labels, script, health=DONE, hidden=(data / "gate",), memory_gigabytes=0.25)
    said = healthy(replace(one, mounts=(Mount(data, data), Mount(keep, keep, writable=True))))
    text = "\n".join(said)
    assert "uid=10001 gid=10001 groups=10001" in text
    assert "image0" in text  # what is hidden is empty
    assert {line for line in said if line.startswith("wrote")} == {f"wrote {keep}", "wrote /tmp"}
    assert text.count("Read-only file system") == 4
    fields = {line.partition(":\t")[0]: line.partition(":\t")[2] for line in said}
    assert (fields["CapEff"], fields["NoNewPrivs"], fields["Seccomp"]) == ("0000000000000000", "1", "2")
    assert [line.split(":")[0].strip() for line in said if ":  " in line] == ["lo"]


def test_an_inner_network_reaches_nobody_but_its_members(labels: dict[str, str]) -> None:
    engine = connect()
    name = f"polyward-test-{labels['org.polyward.test']}"
    network_of(engine, name, internal=True, labels=labels)
    network_of(engine, name, internal=True, labels=labels)  # it stays
    with pytest.raises(Problem, match="with a way out"):
        network_of(engine, name, internal=False, labels=labels)
    listens = "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(LocalPort => 8000, Listen => 5) and sleep 100'"
    other = wanted(labels, f"{listens} & true", "other", networks=(name,), aliases=("way",))
    start(make(engine, other))
    gateway = engine.networks.get(name).attrs["IPAM"]["Config"][0]["Gateway"]
    host = ADDRESS.partition("/")[0]
    script = f"""
        until (exec 3<>/dev/tcp/way/8000) 2>/dev/null; do sleep 0.1; done; echo reached way
        for place in {gateway} {host} 192.0.2.1; do
            for port in 22 53 2375; do
                timeout 3 bash -c "exec 3<>/dev/tcp/$place/$port" 2>&1 && echo reached $place
            done
        done | sed 's/.*: //'
        timeout 3 getent hosts example.org || echo no names; touch /tmp/x"""
    said = healthy(wanted(labels, script, networks=(name,), dns=("127.0.0.1",), health=DONE))
    assert [line for line in said if line.startswith(("reached", "no names"))] == ["reached way", "no names"]
    assert "Connection refused" not in said  # that would be an answer: of this machine


def test_what_the_engine_makes_otherwise_is_not_kept(labels: dict[str, str], images: Engine, tmp_path: Path) -> None:
    """An image that declares a volume would get a writable folder that nobody asked for."""
    engine, tag = connect(), f"polyward-test:{labels['org.polyward.test']}"
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nVOLUME /var/leak\n")
    images.docker("build", "--tag", tag, tmp_path)
    one = replace(wanted(labels, "true"), image=tag)
    with pytest.raises(Problem, match="/var/leak is a mount that nobody asked for, writable"):
        make(engine, one)
    assert found(engine, one.name) is None
    images.docker("rmi", tag)


def test_missing_images_and_folders_are_told(labels: dict[str, str], tmp_path: Path) -> None:
    engine, one = connect(), wanted(labels, "true")
    with pytest.raises(Problem, match="this image is not here"):
        make(engine, replace(one, image="polyward-nowhere:0"))
    with pytest.raises(Problem, match="does not exist"):
        make(engine, replace(one, mounts=(Mount(tmp_path / "none", tmp_path / "none"),)))


def test_one_that_ends_is_told_with_its_last_words(labels: dict[str, str]) -> None:
    engine = connect()
    container = make(engine, replace(wanted(labels, "true"), command=("sh", "-c", "echo no key; exit 2")))
    start(container)
    with pytest.raises(Problem, match=r"does not stay up; its last lines:\s+no key"):
        wait_until_healthy([container], SECONDS)


def test_renewal_forwards_and_back(labels: dict[str, str]) -> None:
    engine = connect()
    first = [wanted(labels, f"echo first {name}", name, health=("true",)) for name in ("one", "two")]
    assert [stands(engine, one) for one in first] == ["absent", "absent"]
    renew(engine, first, SECONDS)
    assert [stands(engine, one) for one in first] == ["as wanted", "as wanted"]
    old = {one.name: found(engine, one.name).id for one in first}  # type: ignore[union-attr]

    ill = [replace(first[0], environment={"X": "1"}), replace(first[1], health=("false",))]
    assert [stands(engine, one) for one in ill] == ["other settings", "other settings"]
    with pytest.raises(Problem, match=r"not healthy within 8 s[\s\S]*from before run again"):
        renew(engine, ill, 8)
    with pytest.raises(Problem, match="this image is not here"):
        renew(engine, [replace(one, image="polyward-nowhere:0") for one in first], 8)
    assert {one.name: found(engine, one.name).id for one in first} == old  # type: ignore[union-attr]
    assert [stands(engine, one) for one in first] == ["as wanted", "as wanted"]
    wait_until_healthy([found(engine, one.name) for one in first], SECONDS)

    well = [replace(one, environment={"X": "2"}) for one in first]
    renew(engine, well, SECONDS)
    assert [stands(engine, one) for one in well] == ["as wanted", "as wanted"]
    assert not set(old.values()) & {one.id for one in engine.containers.list(all=True)}


def test_a_renewal_that_was_cut_off_is_settled(labels: dict[str, str]) -> None:
    engine, old = connect(), wanted(labels, "true", health=("true",))
    renew(engine, [old], SECONDS)
    container = engine.containers.get(old.name)
    container.stop(timeout=5)
    container.rename(f"{old.name}-before")
    start(make(engine, replace(old, health=("false",))))  # and there it was killed
    settle(engine, [old.name])
    assert stands(engine, old) == "as wanted"
    assert engine.containers.get(old.name).status == "running"
    with pytest.raises(NotFound):
        engine.containers.get(f"{old.name}-before")


def test_a_stranger_on_a_network_and_a_loosened_container_are_seen(labels: dict[str, str]) -> None:
    engine, one = connect(), wanted(labels, "true")
    container = make(engine, replace(one, networks=("bridge",)))
    other = engine.networks.create(f"polyward-test-{labels['org.polyward.test']}-x", labels=labels)
    assert stands(engine, replace(one, networks=("bridge",))) == "as wanted"
    other.connect(container)
    assert stands(engine, replace(one, networks=("bridge",))) == "other settings"


def test_a_network_with_a_stranger_on_it_is_left(labels: dict[str, str]) -> None:
    engine, name = connect(), f"polyward-test-{labels['org.polyward.test']}"
    network = network_of(engine, name, internal=True, labels=labels)
    start(make(engine, wanted(labels, "true", networks=(name,))))
    stranger = make(engine, replace(wanted(labels, "true", "x", networks=(name,)), labels={}))
    start(stranger)
    try:
        assert take_down(engine, labels) == [f"{name}-one"]
        network.reload()
        assert [member["Name"] for member in network.attrs["Containers"].values()] == [f"{name}-x"]
    finally:
        stranger.remove(force=True)


def test_lines_of_several_come_in_the_order_of_their_times(labels: dict[str, str]) -> None:
    engine = connect()

    def says(name: str, script: str) -> Wanted:
        return replace(wanted(labels, "", name), command=("sh", "-c", script), restart=False)

    one = make(engine, says("one", "echo a; sleep 1; echo c; sleep 1; echo e"))
    two = make(engine, says("two", "sleep 0.5; echo b; sleep 1; echo d"))
    start(one)
    start(two)
    following = list(logs([one, two], follow=True))
    assert sorted(line for _, line in following) == ["a", "b", "c", "d", "e"]
    assert [(name, line) for name, line in logs([one, two])] == sorted(following, key=lambda said: said[1])
    assert [line for _, line in logs([one, two], lines=1)] == ["d", "e"]
