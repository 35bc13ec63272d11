"""A report's facts in plain sentences, which claim nothing beyond them."""

from __future__ import annotations

from collections.abc import Iterator

from polyward_server.records import State
from polyward_server.report.reading import Facts
from polyward_server.report.sayings import listed, many
from polyward_server.views.receipts import Turn

STATES = {
    State.DRAFT: "It is a draft and has not been queued.",
    State.QUEUED: "It waits for its turn.",
    State.WAITING: "It waits for sites.",
    State.RUNNING: "It is still running.",
    State.PAUSED: "It is paused.",
    State.RESUMING: "It has just been started again.",
    State.FINISHED: "It has finished.",
    State.STOPPED: "It was stopped by a person.",
    State.FAILED: "It failed.",
}
ENCODERS = {
    "one": "one shared image encoder",
    "several": "several shared image encoders",
    "each": "an image encoder of each site's own, moved by those of the others,",
}


def summary(facts: Facts) -> Iterator[str]:
    """What was trained and by whom, for readers who know neither the method nor the words."""
    gave = [row for row in facts.receipts.rows if row.updates]
    planned, done = facts.study.rounds, facts.last
    if gave:
        dates = [each.committed[:10] for each in facts.rounds if each.committed]
        when = f" between {dates[0]} and {dates[-1]}" if dates and dates[0] != dates[-1] else f" on {dates[-1]}"
        encoders = ENCODERS[facts.study.aggregation.traits.encoders]
        yield (
            f"{many(len(gave), 'site')} trained {encoders} together, in {done} of {planned} planned rounds{when}. "
            f"{STATES[facts.state]}"
        )
    else:
        yield f"No site has sent an update yet. {STATES[facts.state]}"
    tasks = listed(f"{name} ({task.kind})" for name, task in facts.study.tasks.items())
    yield (
        f"{'The task was' if len(facts.study.tasks) == 1 else 'The tasks were'} {tasks}; a site may hold some of them. "
        "In each round the sites that are asked train on their own images and send their updates of the shared arrays, "
        "with figures and counts; the hub combines the updates into what the next round starts from. The hub asks for "
        "no images, and its record has no place for any."
    )
    yield from comparison(facts)


def comparison(facts: Facts) -> Iterator[str]:
    """How the federated model did beside those trained alone, with what such figures can and cannot say."""
    rows = [row for row in facts.results.rows if row.gain is not None]
    if not rows:
        yield "There are no figures of a model trained alone beside the federated one, so no gain can be told."
        return
    better = sum(row.gain is not None and row.gain > 0 for row in rows)
    both = [row for row in rows if row.overlap is not None]
    apart = sum(row.overlap is False for row in both)
    yield (
        f"In the latest figures the federated model was better than the one trained alone in {better} of "
        f"{many(len(rows), 'pair')} of a site and a task."
    )
    if both:
        yield (
            f"Both models have a 95 % interval in {many(len(both), 'pair')}: the two overlap in {len(both) - apart} "
            f"and lie apart in {apart}."
        )
    yield "This is one study with one seed; no test was made, and other patients or seeds may say otherwise."


def agreed(facts: Facts) -> str:
    """What the mean cosines say."""
    if not facts.cosines:
        return "There are no two sites whose updates were compared."
    values = list(facts.cosines.values())
    apart = sum(value < 0 for value in values)
    return (
        f"Mean cosines of {many(len(values), 'pair')} of sites run from {min(values):+.2f} to {max(values):+.2f}; "
        f"{apart} of them {'lies' if apart == 1 else 'lie'} below zero. A cosine near zero means nothing in common as "
        "readily as no conflict."
    )


def participation(facts: Facts) -> str:
    """How many parts were taken, refused and missed."""
    turns = [turn for row in facts.receipts.rows for turn in row.turns.values()]
    gave, refused, missed = (sum(turn is each for turn in turns) for each in (Turn.GAVE, Turn.REFUSED, Turn.MISSED))
    return (
        f"{many(gave, 'update')} {'is' if gave == 1 else 'are'} part of the encoder. {many(refused, 'order')} of a "
        f"round ended in a refusal, and {missed} without an answer in time."
    )
