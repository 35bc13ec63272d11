"""The catalogue of federated methods: each is a variation of one study, so that all train the same tasks and images.

A method sets its own options and takes back every other one: the study that it is made from gives schedule, epochs,
rates and the rules' numbers. All have the same passes over the data in a round; where one costs more, its help says so.
Of the study's schedule is every method that does not name one of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from polyward_client.site import Site
from polyward_shared.aggregation import RULES, Rule, Sharing, Traits
from polyward_shared.messages import Kept
from polyward_shared.reading import validated
from polyward_shared.study import Study
from polyward_shared.training import Personal

Tables = dict[str, dict[str, Any]]
LEAST_PASSES = 2  # over the data in a round of a comparison: FedRep divides them between branches and encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method: `sets` gives the options that it changes, as the study's tables; `model` has the figures."""

    help: str
    source: str
    sets: Callable[[Study], Tables]
    rule: Rule = "mean"
    model: Kept = "federated"
    each_alone: bool = False  # every site is a federation of one
    shared_only: bool = False  # defined for tasks with several owners, and for no other

    @property
    def traits(self) -> Traits:
        return RULES[self.rule]

    def of(self, study: Study) -> Study:
        """The study by this method. Raises `Problem` where the study's other rules exclude it."""
        text = study.model_dump(mode="json")
        for tables in (self._plain(study), self.sets(study)):
            for name, keys in tables.items():
                text[name] |= keys
        return validated(text, Study, where=f"the study {study.id}")

    def _plain(self, study: Study) -> Tables:
        """Everything that some method changes, taken back to the plainest form that this rule allows."""
        rule: dict[str, Any] = {"rule": self.rule, "optimiser": "none", "rate": 1.0}
        if self.traits.weighs:
            rule |= {"weighting": "samples"}
        else:
            rule |= {"weighting": "uniform", "largest_share": 1.0}
        fewest = study.aggregation.model_copy(update={"rule": self.rule}).fewest
        return {
            "training": {"proximal": 0.0, "contrast": 0.0, "final_parts": "branches"},
            "personal": Personal(alone=False).model_dump(mode="json"),
            "sharing": Sharing().model_dump(mode="json"),
            "aggregation": rule,
            "participation": {"quorum": max(study.participation.quorum, fewest)},
        }


def passes(study: Study) -> int:
    """Passes over a site's data in a round."""
    training = study.training
    return training.epochs + (training.branch_epochs if training.schedule == "fedrep" else 0)


def equalised(study: Study) -> Study:
    """The study with enough passes in a round for every method to have as many."""
    if passes(study) >= LEAST_PASSES:
        return study
    return study.model_copy(update={"training": study.training.model_copy(update={"epochs": LEAST_PASSES})})


def shared_tasks(study: Study, sites: Iterable[Site]) -> frozenset[str]:
    """Tasks with at least two owners: those for which averaging branches means something.

    None where branches exchange features, for then they are fitted to what else their site has.
    """
    if study.graph(study.topology).interactions:
        return frozenset()
    owners = Counter(task for site in sites for task in site.file.tasks)
    return frozenset(task for task, count in owners.items() if count >= 2)


def _options(**tables: dict[str, Any]) -> Callable[[Study], Tables]:
    return lambda _: tables


def _alone(study: Study) -> Tables:
    """As many rounds of as much work with nobody else: all parts together, as one trains where nothing is shared."""
    return {
        **_together(study),
        "sharing": {"private_encoder": study.sharing.private_encoder},
        "aggregation": {"clip": 0.0},
        "participation": {"quorum": 1, "task_quorum": {}, "sample": 1.0},
        "wire": {"codec": "float32"},
    }


def _everything(study: Study) -> Tables:
    """One model for all, as the mean gives it: no personal tuning at the end."""
    statistics = "shared" if getattr(study.encoder, "norm", "") == "batch" else "site"
    return {
        "training": {"schedule": "fedper", "epochs": passes(study), "final_epochs": 0},
        "sharing": {"branches": "task", "norm_affine": "shared", "norm_statistics": statistics},
        "participation": {"task_quorum": {}},
    }


def _together(study: Study) -> Tables:
    return {"training": {"schedule": "fedper", "epochs": passes(study)}}


def _in_turn(study: Study) -> Tables:
    """Half of the passes for the branches, unless the study itself divides them."""
    training = study.training
    branches = training.branch_epochs if training.schedule == "fedrep" else passes(study) // 2
    return {"training": {"schedule": "fedrep", "branch_epochs": branches, "epochs": passes(study) - branches}}


def _encoder_only(study: Study) -> Tables:
    final = max(1, study.training.final_epochs)
    return {"training": {"schedule": "fedbabu", "epochs": passes(study), "final_epochs": final}}


def _server(optimiser: str, rate: float) -> Callable[[Study], Tables]:
    """An optimiser of the hub, at the study's own rate if that is set for it."""

    def sets(study: Study) -> Tables:
        own = study.aggregation
        return {"aggregation": {"optimiser": optimiser, "rate": own.rate if own.optimiser == optimiser else rate}}

    return sets


METHODS: dict[str, Method] = {
    "local": Method(
        help="every site alone, as much work: the reference",
        source="the same code, federations of one",
        sets=_alone,
        each_alone=True,
    ),
    "fedavg": Method(
        help="encoder and branches averaged, no tuning at the end; only tasks with two owners",
        source="McMahan et al. 2017, arXiv 1602.05629",
        sets=_everything,
        shared_only=True,
    ),
    "fedper": Method(
        help="encoder averaged, trained together with the branches",
        source="Arivazhagan et al. 2019, arXiv 1912.00818",
        sets=_together,
    ),
    "fedrep": Method(
        help="encoder averaged, trained after the branches",
        source="Collins et al. 2021, arXiv 2102.07078",
        sets=_in_turn,
    ),
    "fedbabu": Method(
        help="encoder averaged, branches trained at the end only",
        source="Oh et al. 2022, arXiv 2106.06042",
        sets=_encoder_only,
    ),
    "fedbn": Method(
        help="scales, shifts and statistics of norms stay at the site",
        source="Li et al. 2021, arXiv 2102.07623",
        sets=_options(sharing={"norm_affine": "site", "norm_statistics": "site"}),
    ),
    "fedprox": Method(
        help="the site's work is held to what it received",
        source="Li et al. 2020, arXiv 1812.06127",
        sets=lambda study: {"training": {"proximal": study.training.proximal or 0.01}},  # 0.01: FLamby's
    ),
    "moon": Method(
        help="features drawn to the received encoder's; costs two more forward passes",
        source="Li et al. 2021, arXiv 2103.16257",
        sets=lambda study: {"training": {"contrast": study.training.contrast or 1.0}},
    ),
    "ditto": Method(
        help="a personal model drawn to the federated one; costs twice the training",
        source="Li et al. 2021, arXiv 2012.04221",
        sets=lambda study: {"personal": {"ditto": study.personal.ditto or 1.0}},
        model="ditto",
    ),
    "dual": Method(
        help="a private encoder beside the shared one; costs about twice the training",
        source="FENDA, Tavakoli et al. 2023, arXiv 2309.16825",
        sets=_options(sharing={"private_encoder": True}),
    ),
    "finetune": Method(
        help="the tuning at the end moves the encoder too",
        source="Collins et al. 2022, arXiv 2205.13692",
        sets=_options(training={"final_parts": "all"}),
    ),
    "uniform": Method(
        help="every site counts alike",
        source="as in FMTL-Bench, arXiv 2402.12876",
        sets=_options(aggregation={"weighting": "uniform"}),
    ),
    "tasks": Method(
        help="every task counts alike, its owners by their labels",
        source="polyward",
        sets=_options(aggregation={"weighting": "tasks"}),
    ),
    "taskset": Method(
        help="branches averaged too, among sites with the very same tasks",
        source="polyward",
        sets=_options(sharing={"branches": "taskset"}),
    ),
    "task": Method(
        help="branches averaged too, among all owners of a task",
        source="polyward",
        sets=_options(sharing={"branches": "task"}),
    ),
    "fedavgm": Method(
        help="the hub steps with momentum",
        source="Hsu et al. 2019, arXiv 1909.06335",
        sets=_server("momentum", 1.0),
    ),
    "fedadam": Method(  # the rate of these three is about how far one weight moves in a round, so it is small
        help="the hub steps as Adam does",
        source="Reddi et al. 2021, arXiv 2003.00295",
        sets=_server("adam", 0.01),
    ),
    "fedyogi": Method(
        help="the hub steps as Yogi does",
        source="Reddi et al. 2021, arXiv 2003.00295",
        sets=_server("yogi", 0.01),
    ),
    "fedadagrad": Method(
        help="the hub steps as Adagrad does",
        source="Reddi et al. 2021, arXiv 2003.00295",
        sets=_server("adagrad", 0.03),
    ),
    "cagrad": Method(
        help="a step that avoids conflict, near the mean",
        source="Liu et al. 2021, arXiv 2110.14048",
        sets=_options(),
        rule="cagrad",
    ),
    "pcgrad": Method(
        help="the mean of updates without what conflicts",
        source="Yu et al. 2020, arXiv 2001.06782",
        sets=_options(),
        rule="pcgrad",
    ),
    "mgda": Method(
        help="the shortest step that no site's update opposes",
        source="Desideri 2012; Sener and Koltun 2018, arXiv 1810.04650",
        sets=_options(),
        rule="mgda",
    ),
    "precision": Method(
        help="each weight counts as it matters to a site; sends twice as much, both ways",
        source="diagonal Laplace product, after the Fisher merge of arXiv 2111.09832",
        sets=_options(),
        rule="precision",
    ),
    "clusters": Method(
        help="several encoders, each for like sites",
        source="MaT-FL, Cai et al. 2023",
        sets=_options(aggregation={"weighting": "uniform"}),
        rule="clusters",
    ),
    "fedhca2": Method(
        help="an encoder for each site, mixed without conflict; sends branches too",
        source="Lu et al. 2024, arXiv 2311.13250",
        sets=_options(),
        rule="fedhca2",
    ),
    "trimmed_mean": Method(
        help="the mean without the largest and smallest values",
        source="Yin et al. 2018, arXiv 1803.01498",
        sets=_options(),
        rule="trimmed_mean",
    ),
    "median": Method(
        help="the median of every weight",
        source="Yin et al. 2018, arXiv 1803.01498",
        sets=_options(),
        rule="median",
    ),
    "krum": Method(
        help="the one update that lies nearest to the others",
        source="Blanchard et al. 2017, arXiv 1703.02757",
        sets=_options(),
        rule="krum",
    ),
}
