"""Sealed nodes and a hub in containers: what each can reach, and that faults of engine and network cost no round."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container

from polyward_client.site import Site
from polyward_deploy.processes import wait_for
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_shared.chain import read_chain
from polyward_shared.messages import Kind
from polyward_shared.problems import Problem
from tests.containers.deployed import HOST, OWNER, Deployed, deployed, says
from tests.federation.small import simulated_encoders, small_study
from tests.federation.test_hostile import bundle, configuration
from tests.support.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.containers]


def struck(put: Deployed, ledger: Ledger, study: str, number: int, strike: Callable[[], None]) -> float:
    """Strikes once round `number` is asked and not committed; the seconds until it was committed."""
    deadline = time.monotonic() + 120
    while not any(e.what == "asked" and e.round == number for _, e in ledger.events_after(0, study)):
        assert time.monotonic() < deadline, f"round {number} did not begin"
        time.sleep(0.02)
    last = ledger.last_round(study)
    assert last is not None
    assert last.number < number
    began = time.monotonic()
    strike()
    wait_for(ledger, study, seconds=180, rounds=number)
    return time.monotonic() - began


@pytest.mark.alone
def test_the_same_bytes_whatever_container_engine_or_network_fails(images: Engine, tmp_path: Path) -> None:
    study, sites = small_study(tmp_path / "data", rounds=7, branch_epochs=12, epochs=12)
    expected = simulated_encoders(study, sites, tmp_path / "simulated")
    digest = study.digest()
    with deployed(images, study, sites, tmp_path) as put:
        one, two, *_ = sorted(put.sites)

        def cut_and_heal() -> None:
            outside = images.client.networks.get(f"polyward-{two}-out")
            way = put.container(two, "way")
            outside.disconnect(way)
            time.sleep(6)
            outside.connect(way)

        def stop_and_start_everything() -> None:
            put.down(*put.sites, "hub")
            put.up("hub", *put.sites)

        ledger = put.run()
        strikes: dict[str, Callable[[], None]] = {
            "a trainer dies": lambda: put.crash(one, "trainer"),
            "a gate dies": lambda: put.crash(two, "gate"),
            "a network is cut for 6 s": cut_and_heal,
            "the hub dies": lambda: put.crash("hub"),
            "the engine starts again": images.restart,
            "all is stopped and started": stop_and_start_everything,
        }
        took = {}
        for number, (what, strike) in enumerate(strikes.items(), start=2):
            took[what] = round(struck(put, ledger, digest, number, strike), 1)
        wait_for(ledger, digest, seconds=120)
        assert [done.encoder for done in ledger.rounds(digest)] == expected, took
        given = ledger.contributions(digest)
        assert {number: [each.site for each in found] for number, found in given.items()} == {
            number: sorted(put.sites) for number in range(1, study.rounds + 1)
        }
        print(json.dumps(took, indent=1))


@pytest.fixture(scope="module")
def sealed(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A hub and two hospitals, with nothing to do."""
    folder = tmp_path_factory.mktemp("sealed")
    study, sites = small_study(folder / "data", rounds=1, hospitals=2)
    with deployed(images, study, sites, folder) as put:
        yield put


def test_the_trainer_has_no_route_no_names_and_cannot_write_the_data(sealed: Deployed) -> None:
    name, site = next(iter(sealed.sites.items()))
    trainer = sealed.container(name, "trainer")
    assert says(trainer, "import socket; print([n for _, n in socket.if_nameindex()])").startswith("['lo'")
    assert says(trainer, "print(len(open('/proc/net/route').readlines()))") == "1"  # the heading
    for address in ((HOST, sealed.hub.file.port), ("127.0.0.11", 53), ("10.213.0.1", 80)):
        assert "Error" in says(trainer, f"import socket; socket.create_connection({address}, 3)")
    assert "gaierror" in says(trainer, "import socket; socket.getaddrinfo('deb.debian.org', 80)")
    image = image_of(site)
    assert says(trainer, f"print(len(open({str(image)!r}, 'rb').read()))") == str(image.stat().st_size)
    for user in ("", "root"):  # the engine holds it, whoever asks
        for wanted in (image, site.root / "new", site.path, site.approved / "new", Path("/opt/polyward/new")):
            said = says(trainer, f"open({str(wanted)!r}, 'ab')", user=user)
            assert "Read-only" in said or "Permission" in said, (user, wanted, said)
    assert "FileNotFound" in says(trainer, f"open({str(site.key)!r})")


def test_the_gate_has_no_image_no_vault_and_reaches_the_hub_alone(sealed: Deployed) -> None:
    (name, site), (other, _) = sealed.sites.items()
    gate = sealed.container(name, "gate")
    for hidden in (image_of(site), site.manifest, site.vault):
        said = says(gate, f"import os; os.stat({str(hidden)!r})")
        assert "FileNotFound" in said or "Permission denied" in said
    kinds = (".png", ".npz", ".nii.gz", ".dcm")
    # the engine's own file systems and the image's programs are not the hospital's
    walk = (
        "import os; print([folder for top in set(os.listdir('/')) - {'proc', 'sys', 'opt', 'usr'} "
        f"for folder, _, names in os.walk('/' + top) for name in names if name.endswith({kinds})])"
    )
    assert says(gate, walk) == "[]"
    assert "gaierror" in says(gate, "import socket; socket.getaddrinfo('deb.debian.org', 80)")
    neighbour = sealed.container(other, "way").attrs["NetworkSettings"]["Networks"]
    addresses = [(found["IPAddress"], 3128) for found in neighbour.values()]
    for address in ((HOST, sealed.hub.file.port), (HOST, sealed.hub.file.dashboard_port), *addresses):
        assert "Error" in says(gate, f"import socket; socket.create_connection({address}, 3)"), address
    hub = f"{HOST}:{sealed.hub.file.port}"
    assert "200" in asked(gate, "CONNECT", hub)
    for method, wanted in (
        ("CONNECT", f"{HOST}:{sealed.hub.file.dashboard_port}"),
        ("CONNECT", "deb.debian.org:443"),
        ("CONNECT", "127.0.0.1:3128"),
        ("GET", f"http://{hub}/"),
        ("GET", "http://deb.debian.org/"),
    ):
        said = asked(gate, method, wanted)
        assert said.split()[1] == "403", (method, wanted, said)


def asked(gate: Container, method: str, wanted: str) -> str:
    """How the gate's only neighbour begins its answer."""
    request = f"{method} {wanted} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    return says(
        gate,
        "import socket; way = socket.create_connection(('way', 3128), 3); "
        f"way.sendall({request!r}); print(way.recv(99))",
    )


def image_of(site: Site) -> Path:
    return next(path for path in site.root.rglob("*") if path.suffix == ".png")


def test_the_hub_has_no_folder_of_a_hospital(sealed: Deployed) -> None:
    for site in sealed.sites.values():
        for folder in (site.path.parent, site.root):
            assert "FileNotFound" in says(sealed.container("hub"), f"import os; os.stat({str(folder)!r})")


def test_what_the_engine_holds_each_container_to(sealed: Deployed) -> None:
    name = next(iter(sealed.sites))
    for container in (sealed.container("hub"), *(sealed.container(name, part) for part in ("gate", "trainer", "way"))):
        found = container.attrs
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], container.name
        assert not host["Privileged"], container.name
        assert host["CapDrop"] == ["ALL"], container.name
        assert "no-new-privileges" in " ".join(host["SecurityOpt"]), container.name
        assert found["Config"]["User"] == f"{OWNER}:{OWNER}", container.name
        limited = container.name.endswith(("-gate", "-way"))  # of the trainer, as the site's file says
        assert host["Memory"] > 0 or not limited, container.name
        assert host["PidsLimit"] > 0, container.name
        assert not any("docker.sock" in mount["Source"] for mount in found["Mounts"])
        seccomp = says(container, "print([l for l in open('/proc/self/status') if l.startswith('Seccomp:')])")
        assert "2" in seccomp, container.name  # filtered


PUSH = """
import sys
from pathlib import Path
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from polyward_server.hub import Hub
from polyward_server.runner import session_of
with session_of(Hub(Path(sys.argv[1]))) as session:
    content = Path(sys.argv[2]).read_bytes()
    print(session._control.StartRun(StartRunRequest(fab=Fab(hash_str=sys.argv[3], content=content))).run_id)
"""


def test_a_hostile_bundle_gets_nothing(sealed: Deployed) -> None:
    """Started inside the hub's container with the hub's own secrets; it runs in no container, and the study goes on."""
    code = "from pathlib import Path\nPath('/tmp/canary').write_text('run')\napp = None\n"
    fab = bundle(
        {
            "pyproject.toml": configuration(
                'serverapp = "polyward_server.nothing:app"\nclientapp = "polyward_client.gate.gate:app"'
            ),
            **{
                f"polyward_{side}/{name}": code
                for side in ("client", "server")
                for name in ("__init__.py", "nothing.py")
            },
        }
    )
    pushed = sealed.hub.folder / "hostile.fab"
    pushed.write_bytes(fab.content)
    hub = sealed.container("hub")
    done = hub.exec_run(["/opt/polyward/bin/python", "-c", PUSH, str(sealed.hub.folder), str(pushed), fab.hash_str])
    assert int(done.output.decode().split()[-1]) > 0, done.output.decode()
    ledger = sealed.run()
    study = ledger.studies_in(*State)[0]
    wait_for(ledger, study, seconds=120)
    for container in (
        hub,
        *(sealed.container(name, part) for name in sealed.sites for part in ("gate", "trainer", "way")),
    ):
        assert says(container, "import os; print(os.path.exists('/tmp/canary'))") == "False", container.name
    for site in sealed.sites.values():  # all that left is what the study says
        kinds = {entry["kind"] for entry in read_chain(site.sent) if entry["what"] == "report"}
        assert kinds <= set(Kind), kinds


def test_a_gate_that_was_given_another_way_out_is_taken_down(sealed: Deployed) -> None:
    """The last of these: the node of one site does not run any more."""
    name = next(iter(sealed.sites))
    sealed.engine.docker("network", "connect", "bridge", f"polyward-{name}-gate")
    with pytest.raises(Problem, match="its networks are"):
        sealed.up(name)
    assert not sealed.engine.client.containers.list(all=True, filters={"name": f"polyward-{name}-"})
