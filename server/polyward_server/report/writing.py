"""Facts -> one document: HTML that needs nothing else, or PDF made of the same HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2

from polyward_server import templates, words
from polyward_server.gains import shown_split
from polyward_server.report import telling
from polyward_server.report.curves import MOST_BEHIND, Course, curves, signal, unbroken
from polyward_server.report.methods import methods, task_lines
from polyward_server.report.naming import Names
from polyward_server.report.plots import agreement, intervals, participation
from polyward_server.report.reading import Facts
from polyward_server.report.sayings import Method
from polyward_server.views.receipts import Turn
from polyward_server.views.results import Result
from polyward_shared.problems import Problem
from polyward_shared.tasks import METRICS, arrow
from polyward_shared.whole import write_whole

STYLES = files("polyward_server.report") / "templates"
SUFFIXES = (".html", ".pdf")
METRIC_NAMES = {
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "c_index": "C index",
    "cldice": "clDice",
    "dice": "Dice",
    "iou": "IoU",
    "kappa": "weighted kappa",
    "mae": "mean absolute error",
    "psnr": "PSNR",
    "r2": "R\N{SUPERSCRIPT TWO}",
    "rmse": "root mean squared error",
    "ssim": "SSIM",
}
TABLE_COLUMNS = 4  # sites side by side in the tables of all rounds, so that intervals fit a page's width


def check_output(output: Path) -> None:
    """Raises `Problem` for a name that is neither HTML's nor PDF's, before any work is done."""
    if output.suffix.lower() not in SUFFIXES:
        raise Problem(str(output), "is no report's name", expected="a name that ends in .html or .pdf")


def write_report(facts: Facts, output: Path) -> None:
    """Writes the document, whole or not at all. Raises `Problem` where PDF cannot be made here."""
    check_output(output)
    text = page(facts)
    write_whole(output, pdf(text, facts.digest, output) if output.suffix.lower() == ".pdf" else text.encode())


def page(facts: Facts) -> str:
    """The document's HTML; the same facts give the same text."""
    names, study = facts.names, facts.study
    said = methods(study)
    sources = list(dict.fromkeys(source for method in said for source in method.sources))
    sites = sorted(facts.receipts.rows, key=lambda row: _in_order(names.of(row.site)))
    courses = {
        task: sorted(
            (Course(names.of(each.site), each.federated, each.alone) for each in known),
            key=lambda each: _in_order(each.site),
        )
        for task, known in facts.courses.items()
    }
    results = {
        task: sorted(
            ((names.of(row.site), row) for row in facts.results.rows if row.task == task),
            key=lambda pair: _in_order(pair[0]),
        )
        for task in study.tasks
    }
    return (
        environment(names)
        .get_template("report.html")
        .render(
            facts=facts,
            study=study,
            style={name: (STYLES / name).read_text(encoding="utf-8") for name in ("report.css", "screen.css")},
            dated=facts.events[-1].at if facts.events else "",
            split=shown_split(study),
            summary=list(telling.summary(facts)),
            comparison=list(telling.comparison(facts)),
            agreed=telling.agreed(facts),
            took_part=telling.participation(facts),
            methods=said,
            sources=sources,
            cited=lambda method: _cited(method, sources),
            tasks=task_lines(study),
            metrics={name: METRICS[task.kind][0] for name, task in study.tasks.items()},
            sites=sites,
            Turn=Turn,
            runs=runs,
            results=results,
            courses=courses,
            columns=TABLE_COLUMNS,
            behind=MOST_BEHIND,
            plots=_plots(facts, courses, results),
            pulls=sorted(facts.pulls, key=lambda each: _in_order(names.of(each.site))),
            software=sorted({row.software for row in sites if row.software}),
        )
    )


def _plots(
    facts: Facts, courses: dict[str, list[Course]], results: dict[str, list[tuple[str, Result]]]
) -> dict[str, object]:
    names, last = facts.names, facts.last
    gave = sorted({site for pair in facts.cosines for site in pair}, key=lambda site: _in_order(names.of(site)))
    labels = [names.of(site) for site in gave]
    cosines = {
        (min(a, b), max(a, b)): value
        for (one, other), value in facts.cosines.items()
        for a, b in [(names.of(one), names.of(other))]
    }
    turns = {names.of(row.site): row.turns for row in facts.receipts.rows}
    signals = {each.number: each.signals for each in facts.rounds if each.number}

    def of(name: str) -> dict[int, float]:
        return {number: value for number, each in signals.items() if (value := getattr(each, name)) is not None}

    return {
        "participation": participation(
            {site: turns[site] for site in sorted(turns, key=_in_order)},
            max([last, *(number for own in turns.values() for number in own)]),
        ),
        "curves": {task: curves(task, known, last) for task, known in courses.items()},
        "intervals": {task: intervals(task, rows) for task, rows in results.items() if rows},
        "agreement": agreement(labels, cosines) if cosines else None,
        "signals": [
            signal("step", "Length of the encoder's step", {"step": of("step")}, last),
            signal("drift", "Distance from the first encoder", {"distance": of("drift")}, last),
            signal(
                "cancellation",
                "Part of the updates that cancels out",
                {"measured": of("cancellation"), "if unrelated": of("orthogonal")},
                last,
            ),
            signal("effective", "Sites that the step rests on", {"effective": of("effective")}, last),
        ]
        if of("step")
        else [],
    }


def pdf(text: str, digest: str, output: Path) -> bytes:
    """The HTML as tagged PDF on A4. Nothing is fetched. Raises `Problem` where the library is not there."""
    try:
        import weasyprint
    except (ImportError, OSError) as error:
        raise Problem(
            str(output),
            f"PDF cannot be made here: {_sentence(error)}",
            remedy="write HTML and print it from a browser, or install polyward[pdf] and, on Debian, libpango-1.0-0 "
            "and libpangoft2-1.0-0",
        ) from None
    made: bytes = weasyprint.HTML(string=text, url_fetcher=_refuse).write_pdf(
        pdf_tags=True, pdf_identifier=digest.encode()
    )
    return made


def environment(names: Names) -> jinja2.Environment:
    """The report's templates; `site` and `hidden` say how sites are called."""
    return templates.environment(
        "polyward_server.report",
        site=names.of,
        hidden=names.hide,
        figure=words.figure,
        size=words.size,
        duration=words.duration,
        arrow=arrow,
        metric=lambda name: METRIC_NAMES.get(name, name.replace("_", " ")),
        dash=lambda value: value or words.ABSENT,
        day=lambda at: at[:16].replace("T", " ") if at else words.ABSENT,
    )


def runs(numbers: Iterable[int]) -> str:
    """Such as "1-4, 6": rounds as people write them; a dash for none."""
    parts = unbroken(sorted(numbers), 1)
    told = (f"{part[0]}\N{EN DASH}{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
    return ", ".join(told) or words.ABSENT


def _cited(method: Method, sources: Sequence[str]) -> list[int]:
    return [sources.index(source) + 1 for source in method.sources]


def _in_order(label: str) -> tuple[int, str]:
    """Site B before site AA; names by their letters."""
    return (len(label), label) if re.fullmatch(r"site [A-Z]+", label) else (0, label)


def _refuse(url: str) -> dict[str, object]:
    raise ValueError(f"a report fetches nothing, and this wants {url}")


def _sentence(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
