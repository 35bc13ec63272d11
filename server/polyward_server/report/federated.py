"""The federation's half of a study in words: what crosses, how it is combined, who is needed, what is measured."""

from __future__ import annotations

from collections.abc import Iterator

from polyward_server.report.sayings import Method, cited, listed, many
from polyward_server.words import duration
from polyward_shared.aggregation import Aggregation
from polyward_shared.study import Study

RULES = {
    "mean": "the weighted mean of the sites' changes, summed as integers so that the order of arrival changes nothing",
    "precision": "element by element the mean weighted by how sure each site is of a value (product of diagonal "
    "Laplace posteriors)",
    "trimmed_mean": "element by element the mean without the {faulty} least and {faulty} largest values; every site "
    "counts alike",
    "median": "element by element the median; every site counts alike",
    "krum": "the change that lies closest to its neighbours (Krum, up to {faulty} lying sites)",
    "mgda": "the shortest vector in the convex hull of the changes; every site counts alike",
    "pcgrad": "the mean of the changes, each without its part against every other that it conflicts with",
    "cagrad": "the step that serves the worst-served site best within {c:g} times the mean's length of the mean",
    "clusters": "{clusters} encoders, each the mean of a cluster of sites whose encoders went the same way",
    "fedhca2": "an encoder and decoders for every site, moved a little by those of the others (c = {c:g})",
}
WEIGHTS = {
    "samples": "A site counts by its number of labelled training images.",
    "tasks": "Every task has the same say, shared among its owners by their numbers of labels to the power {power:g}.",
    "uniform": "Every site counts alike.",
}


def federation(study: Study) -> list[Method]:
    """From what crosses to its form on the way."""
    return [
        Method("What crosses", tuple(_sharing(study)), cited(*(["fedbn"] if _keeps_norms(study) else []))),
        _aggregation(study.aggregation),
        Method("Participation", tuple(_participation(study))),
        Method("Evaluation", tuple(_evaluation(study))),
        Method("Wire", tuple(_wire(study))),
    ]


def _sharing(study: Study) -> Iterator[str]:
    yield {
        "site": "The encoder alone; branches stay at their site.",
        "task": "The encoder, and each branch among all sites that own its task.",
        "taskset": "The encoder, and each branch among sites with the very same tasks.",
    }[study.sharing.branches]
    affine = {"shared": "cross", "site": "stay", "auto": "stay with batch norm and cross otherwise"}
    yield f"Scales and shifts of norms {affine[study.sharing.norm_affine]}; their running statistics " + (
        "stay at the site." if study.sharing.norm_statistics == "site" else "cross as moments."
    )


def _aggregation(rule: Aggregation) -> Method:
    said = RULES[rule.rule].format(faulty=rule.faulty, c=rule.c, clusters=rule.clusters)
    sentences = [f"Rule {rule.rule}: {said}."]
    methods: list[str] = [rule.rule]
    if rule.traits.weighs:
        sentences.append(WEIGHTS[rule.weighting].format(power=rule.task_exponent))
    if rule.largest_share < 1:
        sentences.append(f"No site counts for more than {rule.largest_share:.0%} of those that a round asks.")
    if rule.clip:
        sentences.append(f"An update longer than {rule.clip:g} times the last round's median is shortened to that.")
        methods.append("clip")
    else:
        sentences.append("Updates are not shortened.")
    if rule.optimiser == "none":
        sentences.append("The hub takes the rule's step as it is.")
    else:
        more = f"; beta2 {rule.beta2:g}, tau {rule.tau:g}" if rule.optimiser != "momentum" else ""
        sentences.append(f"The hub's optimiser: {rule.optimiser} (rate {rule.rate:g}; beta1 {rule.beta1:g}{more}).")
        methods.append(rule.optimiser)
    return Method("Aggregation", tuple(sentences), cited(*methods))


def _participation(study: Study) -> Iterator[str]:
    rule = study.participation
    yield f"A round needs {many(rule.quorum, 'site')}" + (
        "".join(f", {count} of them with {task}" for task, count in rule.task_quorum.items()) + "."
    )
    asked = "all sites" if rule.sample == 1 else f"{rule.sample:.0%} of the sites, never fewer than the quorum"
    yield f"Each round asks {asked}."
    yield (
        f"Deadline of a round {duration(rule.deadline_seconds)}; past it a site is waited for while its work goes on, "
        f"{duration(rule.stall_seconds)} without progress and {duration(rule.longest_seconds)} in all at most; one "
        f"that went offline for {duration(rule.rejoin_seconds)}."
    )


def _evaluation(study: Study) -> Iterator[str]:
    rule = study.evaluation
    every = "every round" if rule.every == 1 else f"every {rule.every} rounds and the last"
    yield f"Each site measures its own cases of {listed(rule.splits)} in {every}."
    yield (
        f"Intervals of 95 % from {rule.resamples} bootstrap resamples of a site's patients, in the last figures."
        if rule.resamples
        else "The study asks for no bootstrap intervals (evaluation.resamples = 0)."
    )


def _wire(study: Study) -> Iterator[str]:
    yield {
        "float32": "Arrays cross as float32 values.",
        "bfloat16": "Arrays cross as their change from a known state, rounded to bfloat16.",
    }[study.wire.codec]
    yield f"A site sends no update whose norm is above {study.wire.update_norm:g}."


def _keeps_norms(study: Study) -> bool:
    return study.sharing.norm_statistics == "site" and getattr(study.encoder, "norm", "") == "batch"
