"""The studies that a site knows of: approved, proposed, rejected, withdrawn, finished, or asked for by the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyward_client.approvals import Approval, read_approval
from polyward_client.decisions import Decision, Verdict, last_about, read_decisions
from polyward_client.site import Site
from polyward_shared.chain import read_chain
from polyward_shared.messages import Kind
from polyward_shared.problems import Code, Problem
from polyward_shared.study import Study, read_study
from polyward_shared.whole import write_whole

START_OF_A_DIGEST = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One study by its digest. `study` is None where only its digest came, in an order of the hub's."""

    digest: str
    state: str
    study: Study | None
    approval: Approval | None
    decision: Decision | None
    rounds: int  # answered so far


def known_studies(site: Site) -> list[Known]:
    """All of them, those decided last at the end. Raises `Problem` for records that are not sound."""
    decisions, lines = read_decisions(site.approved), list(read_chain(site.sent))
    texts = {path.stem for folder in (site.approved, _texts(site)) for path in folder.glob("*.json")}
    asked = {line["study"] for line in lines if line.get("code") == Code.STUDY_NOT_APPROVED and line["study"]}
    decided = {each.study for each in decisions if each.study}
    known = [_known(site, digest, last_about(decisions, digest), lines) for digest in texts | asked | decided]
    return sorted(known, key=lambda each: (each.decision.at if each.decision else "", each.digest))


def find_study(site: Site, text: str) -> Study:
    """The study of a file, or the known one whose digest begins so or which has this id. Raises `Problem`."""
    if Path(text).exists():
        return read_study(Path(text))
    known = known_studies(site)
    found = [each for each in known if each.study is not None and each.study.id == text]
    if not found and not START_OF_A_DIGEST.fullmatch(text):
        return read_study(Path(text))
    found = found or [each for each in known if each.digest.startswith(text)]
    if len(found) != 1 or found[0].study is None:
        raise Problem(
            text,
            f"names {len(found) or 'no'} studies" if len(found) != 1 else "is a study without its text here",
            expected="a study's file, its id, or the start of its digest",
            remedy="name the study's file; polyward-node studies shows the digests",
        )
    return found[0].study


def keep_text(site: Site, study: Study) -> None:
    """Keeps the text of a study that is not approved, so that it can be shown and decided on by its digest."""
    write_whole(_texts(site) / f"{study.digest()}.json", study.canonical().encode())


def earlier_version(site: Site, study: Study) -> Approval | None:
    """What was approved last under the study's id with another digest, if anything was."""
    digest = study.digest()
    for each in reversed(read_decisions(site.approved)):
        if each.verdict is Verdict.APPROVED and each.id == study.id and each.study != digest:
            return read_approval(site.approved, each.study)
    return None


def answered_rounds(lines: Iterable[Mapping[str, Any]], digest: str) -> set[int]:
    """The rounds of a study of which an update left, from the sent-ledger's lines."""
    return {line["round"] for line in lines if _is_report(line, digest, Kind.TRAIN)}


def _known(site: Site, digest: str, decision: Decision | None, lines: list[dict[str, Any]]) -> Known:
    approval = read_approval(site.approved, digest)
    state = str(decision.verdict) if decision else "proposed"
    if state == Verdict.APPROVED and any(_is_report(line, digest, Kind.FINISH) for line in lines):
        state = "finished"
    return Known(
        digest=digest,
        state=state,
        study=approval.study if approval else _text(site, digest),
        approval=approval,
        decision=decision,
        rounds=len(answered_rounds(lines, digest)),
    )


def _text(site: Site, digest: str) -> Study | None:
    path = _texts(site) / f"{digest}.json"
    if not path.is_file():
        return None
    try:
        study = Study.model_validate_json(path.read_bytes(), strict=True)
    except ValueError:
        study = None
    if study is None or study.digest() != digest:
        raise Problem(str(path), "is damaged", remedy="delete it, and show the study's file again")
    return study


def _texts(site: Site) -> Path:
    return site.approved / "studies"


def _is_report(line: Mapping[str, Any], digest: str, kind: Kind) -> bool:
    return (line["what"], line.get("study"), line.get("kind")) == ("report", digest, kind)
