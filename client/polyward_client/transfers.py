"""Everything that left a site, from the sent-ledger: as a table, line by line in full, and summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from polyward_client.approvals import Approval, read_approval
from polyward_client.site import Site
from polyward_shared.messages import Kind

Line = Mapping[str, Any]
SHOWN, SHOWN_OF_BYTES = 8, 6  # characters of a study's digest, and of that of its bytes, so that 80 columns are enough


def chosen(lines: Sequence[Line], study: str, number: int | None) -> list[Line]:
    """The lines about the studies whose digest begins so, and about this round if one is given."""
    return [
        line
        for line in lines
        if str(line.get("study", "")).startswith(study) and (number is None or line.get("round") == number)
    ]


def transfer_table(lines: Sequence[Line], title: str) -> Table:
    """A line for each transfer and each refusal."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("when", "what", "study", "round", "arrays", "bytes", "sha256", "norm", "figures"):
        right = heading in {"round", "bytes", "norm", "figures"}
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading not in {"what", "arrays"})
    for line in lines:
        norm = line.get("norm")
        table.add_row(
            str(line["at"])[:16].replace("T", " "),
            what(line),
            str(line.get("study", ""))[:SHOWN],
            str(line.get("round", "")),
            ", ".join(f"{group} {part['arrays']}" for group, part in line.get("groups", {}).items()),
            f"{line.get('bytes', 0):,}",
            str(line.get("sha256", ""))[:SHOWN_OF_BYTES] if line.get("bytes") else "",
            "" if norm is None else f"{norm:.3g}",
            str(len(line.get("metrics", ()))),
        )
    return table


def in_full(site: Site, lines: Sequence[Line]) -> Iterator[str]:
    """Each line with all that it says; names and shapes come from the approval under which the arrays left."""
    approvals: dict[str, Approval | None] = {}
    for line in lines:
        study = line.get("study", "")
        if study not in approvals:
            approvals[study] = read_approval(site.approved, study)
        yield f"line {line['seq']}  {line['at']}  {what(line)}"
        for key, value in line.items():
            if key not in {"seq", "at", "what", "prev", "metrics", "groups"} and value not in ("", {}, [], None):
                yield f"  {key}: {value}"
        yield from _arrays(line, approvals[study])
        for task, split, stage, name, value, count, *ends in line.get("metrics", ()):
            interval = f" [{ends[0]:.6g}, {ends[1]:.6g}]" if ends else ""
            yield f"  figure: {task} {split} {stage} {name} = {value:.6g}{interval}, from {count} cases"


def _arrays(line: Line, approval: Approval | None) -> Iterator[str]:
    known = approval is not None and approval.schema.digest == line.get("schema")
    for group, part in line.get("groups", {}).items():
        yield f"  {group}: {part['arrays']} arrays, {part['values']:,} values"
        if approval is not None and known:
            for spec in approval.schema.group(group).arrays:
                yield f"    {spec.name}  {' x '.join(map(str, spec.shape)) or 'one value'}"
    if line.get("groups") and not known:
        yield "  names and shapes are not here: the study was approved anew since, for other arrays"


def totals(lines: Sequence[Line]) -> Table:
    """What each study took, ever: transfers, bytes, refusals; last what was said on the control plane, if anything."""
    table = Table(title="in all", box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("study", "transfers", "bytes", "refusals"):
        table.add_column(heading, justify="left" if heading == "study" else "right")
    transfers, sizes, refusals = Counter[str](), Counter[str](), Counter[str]()
    names = dict.fromkeys(_owner(line) for line in lines)
    for line in lines:
        (refusals if line["what"] == "refusal" else transfers)[_owner(line)] += 1
        sizes[_owner(line)] += line.get("bytes", 0)
    for name in names:
        table.add_row(name, str(transfers[name]), f"{sizes[name]:,}", str(refusals[name]))
    table.add_section()
    table.add_row("everything", str(transfers.total()), f"{sizes.total():,}", str(refusals.total()))
    return table


def what(line: Line) -> str:
    """The kind of a line in one word: join, train, finish, control, or a refusal's code."""
    if line["what"] == "report":
        return Kind(line["kind"]).name.lower()
    return str(line.get("code") or line["what"])


def _owner(line: Line) -> str:
    if line["what"] == "control":
        return "control plane"
    return str(line.get("study", ""))[:SHOWN] or "no study"
