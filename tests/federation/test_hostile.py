"""What a hostile coordinator can do with the hub's own secrets: ask. Nothing executes at a site; it stays usable."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab

from polyward_deploy.processes import Processes, federation, wait_for
from polyward_server.flower.session import Session
from polyward_server.runner import session_of
from polyward_shared.chain import read_chain
from polyward_shared.messages import Kind, Order
from polyward_shared.problems import Code
from polyward_shared.study import Study
from polyward_shared.wire import REFUSAL, order_content, payload_record
from tests.federation.small import small_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Processes, Study]]:
    folder = tmp_path_factory.mktemp("hostile")
    study, sites = small_study(folder / "data", rounds=1, hospitals=2)
    with federation(study, sites, folder / "real") as processes:
        yield processes, study


def bundle(files: dict[str, str]) -> Fab:
    """A bundle as `flwr build` makes it, with whatever is in `files`."""
    listing = "\n".join(
        f"{name},{hashlib.sha256(text.encode()).hexdigest()},{8 * len(text.encode())}" for name, text in files.items()
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(".info/CONTENT", listing)
    return Fab(hash_str=hashlib.sha256(packed.getvalue()).hexdigest(), content=packed.getvalue())


def configuration(components: str) -> str:
    return (
        '[project]\nname = "hostile"\nversion = "1.0.0"\ndescription = ""\nlicense = "Apache-2.0"\n'
        'dependencies = ["flwr>=1.41,<1.42"]\n[tool.flwr.app]\npublisher = "hostile"\n'
        f"[tool.flwr.app.components]\n{components}\n[tool.flwr.app.config]\n"
    )


def answers_to(processes: Processes, contents: list[tuple[str, RecordDict]]) -> list[Message]:
    """Sends each content as a message of this type to one site, as a run's server, and waits for the replies."""
    with session_of(processes.hub) as session:
        node = next(node for node, state in wait_online(session).items() if state)
        with session.open_run() as run:
            messages = [Message(content, dst_node_id=node, message_type=kind) for kind, content in contents]
            ids = list(run.grid.push_messages(messages))
            replies: dict[str, Message] = {}
            deadline = time.monotonic() + 30
            while len(replies) < len(ids) and time.monotonic() < deadline:
                for message in run.grid.pull_messages([i for i in ids if i not in replies]):
                    replies[message.metadata.reply_to_message_id] = message
                time.sleep(0.05)
            return [replies[message_id] for message_id in ids]


def wait_online(session: Session) -> dict[int, bool]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        nodes = {node: state.online for node, state in session.nodes().items()}
        if nodes and all(nodes.values()):
            return nodes
        time.sleep(0.1)
    raise AssertionError("the nodes did not come online")


def refusals(processes: Processes) -> int:
    return sum(e["what"] == "refusal" for site in processes.sites.values() for e in read_chain(site.sent))


def test_every_hostile_message_gets_a_code_and_a_ledger_line(running: tuple[Processes, Study]) -> None:
    processes, study = running
    before = refusals(processes)
    unapproved = Order(kind=Kind.TRAIN, study="0" * 64, round=1, state_digest="1" * 64, payload=b"\0" * 8)
    wrong_state = Order(kind=Kind.TRAIN, study=study.digest(), round=1, state_digest="1" * 64)
    hostile = [
        ("train.evil", RecordDict()),
        ("query.join", RecordDict({"code": ConfigRecord({"run": b"import os; os.system('id')"})})),
        ("query.join", RecordDict({"order": ConfigRecord({"path": "/etc/passwd"}), "arrays": ArrayRecord()})),
        ("train.round", order_content(unapproved, payload_record(unapproved.payload))),
        ("train.round", order_content(wrong_state, payload_record(b""))),
    ]
    replies = answers_to(processes, hostile)
    assert [(reply.error.code, reply.error.reason) for reply in replies] == [
        (REFUSAL, Code.UNKNOWN_MESSAGE),
        (REFUSAL, Code.MALFORMED_ORDER),
        (REFUSAL, Code.MALFORMED_ORDER),
        (REFUSAL, Code.STUDY_NOT_APPROVED),
        (REFUSAL, Code.STATE_UNKNOWN),
    ]
    assert refusals(processes) == before + len(hostile)


def test_bundles_with_code_run_nowhere(running: tuple[Processes, Study], tmp_path: Path) -> None:
    """One bundle shadows our packages, one is an agent; started with the hub's own secrets, neither is imported."""
    processes, study = running
    canary = tmp_path / "canary"
    code = f"from pathlib import Path\nPath({str(canary)!r}).write_text('run')\napp = None\n"
    shadow = {
        "pyproject.toml": configuration(
            'serverapp = "polyward_server.nothing:app"\nclientapp = "polyward_client.gate.gate:app"'
        ),
        **{f"polyward_{side}/{name}": code for side in ("client", "server") for name in ("__init__.py", "nothing.py")},
    }
    agent = {"pyproject.toml": configuration('agentapp = "agent.app:app"'), "agent/__init__.py": code}
    with session_of(processes.hub) as session:
        accepted = []
        for files in (shadow, agent):
            try:
                accepted.append(session._control.StartRun(StartRunRequest(fab=bundle(files))).run_id)
            except httpx.HTTPStatusError as error:
                assert error.response.status_code < 500  # noqa: PT017  Flower may refuse it by itself
    assert accepted, "Flower took neither bundle, so this test shows nothing"
    ledger = processes.run()  # and while they wait, our own study runs to its end
    wait_for(ledger, study.digest(), seconds=120)
    assert not canary.exists()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/docs",
        "/openapi.json",
        "/health",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "//v1/control/start-run",
    ],
)
def test_nothing_but_the_fleet_api_is_public(running: tuple[Processes, Study], path: str) -> None:
    processes, _ = running
    hub = processes.hub
    import ssl

    context = ssl.create_default_context(cadata=hub.ca.read_text())
    with httpx.Client(verify=context) as client:
        for method in ("GET", "POST"):
            url = httpx.URL(f"https://{hub.file.host}:{hub.file.port}").copy_with(raw_path=path.encode())
            assert client.request(method, url, content=b"").status_code == 404
        private = f"https://{hub.private_address}/v1/control/start-run"
        assert client.post(private, content=b"").status_code == 403  # on loopback too, without the secret


def test_the_sent_ledger_names_all_that_left_and_no_secret(running: tuple[Processes, Study]) -> None:
    processes, _ = running
    for site in processes.sites.values():
        entries = list(read_chain(site.sent))
        assert entries
        text = json.dumps(entries)
        assert str(site.root) not in text
        assert "Traceback" not in text
