"""How long the sites' updates are, and how far the encoder goes: round by round."""

from __future__ import annotations

from typing import Any

from polyward_server.views.picture import Picture
from polyward_shared.reading import Frozen

DIGITS = 5  # of a drawn value


class UpdateRow(Frozen):
    """One accepted update of one site."""

    round: int
    site: str
    norm: float  # L2, of the change of what is shared
    scale: float  # below 1 where it was cut to a usual length
    share: float | None  # of the encoder's step
    agreement: float | None  # cosine with the weighted sum of the others
    attempt: int
    training_seconds: float  # as the site says
    steps: int  # of the optimiser, as the site says
    bytes_down: int
    bytes_up: int


class Length(Frozen):
    """One site's norms, None for rounds to which it gave nothing."""

    site: str
    place: int  # of the site among the study's
    norms: tuple[float | None, ...]


class Updates(Frozen):
    """The updates as they came."""

    round: int
    rounds: tuple[int, ...]
    lines: tuple[Length, ...]
    rows: tuple[UpdateRow, ...]

    @property
    def last(self) -> tuple[UpdateRow, ...]:
        return tuple(row for row in self.rows if row.round == self.round)

    @property
    def chart(self) -> dict[str, Any]:
        """For the page's script."""
        lines = [{"label": line.site, "place": line.place, "values": _short(line.norms)} for line in self.lines]
        return {"x": self.rounds, "y": lines, "xLabel": "round", "yLabel": "L2 norm of the update"}


class DriftRow(Frozen):
    """What a round's updates say together; None where the rule or the number of sites gives nothing to say."""

    round: int
    seconds: float
    step: float | None  # length of the encoder's step
    drift: float | None  # its distance from the first encoder
    cancellation: float | None  # part of the sites' lengths that was lost in the sum
    orthogonal: float | None  # the same if their updates stood at right angles
    effective: float | None  # as many equally weighted sites would tell as much


class Drift(Frozen):
    """All committed rounds, oldest first."""

    sites: int  # that gave to the last round
    rows: tuple[DriftRow, ...]

    @property
    def charts(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Name, title, how to read it, and the data for the page's script."""
        return [
            (
                "way",
                "Step and drift",
                "How far a round moved the encoder, and how far it is from the first. A step that stays long while the "
                "drift stays flat goes to and fro: lower the rate, or look at conflict.",
                self._chart("L2 norm", {"step": "step", "drift": "drift"}),
            ),
            (
                "lost",
                "Cancellation",
                "The part of the updates' lengths that the sum lost. Above the line of unrelated updates sites work "
                "against one another; below it they agree.",
                self._chart("part lost", {"cancellation": "cancellation", "unrelated": "orthogonal"}),
            ),
            (
                "effective",
                "Effective sites",
                "As many equally weighted sites would tell as much: far below the number of sites, one of them leads.",
                self._chart("sites", {"effective sites": "effective"}),
            ),
        ]

    def _chart(self, label: str, lines: dict[str, str]) -> dict[str, Any]:
        values = [
            {"label": name, "values": _short([getattr(r, key) for r in self.rows])} for name, key in lines.items()
        ]
        return {"x": [row.round for row in self.rows], "y": values, "xLabel": "round", "yLabel": label, "zero": True}


def read_updates(picture: Picture) -> Updates:
    """Reads them from the study's picture."""
    rounds = tuple(number for number in sorted(picture.given) if number)
    norms: dict[str, dict[int, float]] = {}
    places = picture.places
    for number in rounds:
        for each in picture.given[number]:
            norms.setdefault(each.site, {})[number] = each.norm
    return Updates(
        round=rounds[-1] if rounds else 0,
        rounds=rounds,
        lines=tuple(
            Length(site=site, place=places.get(site, 0), norms=tuple(known.get(number) for number in rounds))
            for site, known in sorted(norms.items())
        ),
        rows=tuple(
            UpdateRow(
                round=number,
                site=each.site,
                norm=each.norm,
                scale=each.scale,
                share=each.share,
                agreement=each.agreement,
                attempt=each.attempt,
                training_seconds=each.seconds,
                steps=each.steps,
                bytes_down=each.bytes_down,
                bytes_up=each.bytes_up,
            )
            for number in rounds
            for each in picture.given[number]
        ),
    )


def read_drift(picture: Picture) -> Drift:
    """Reads it from the study's picture."""
    return Drift(
        sites=len(picture.given.get(picture.last, ())),
        rows=tuple(
            DriftRow(
                round=each.number,
                seconds=each.seconds,
                step=each.signals.step,
                drift=each.signals.drift,
                cancellation=each.signals.cancellation,
                orthogonal=each.signals.orthogonal,
                effective=each.signals.effective,
            )
            for each in picture.rounds
            if each.number
        ),
    )


def _short(values: tuple[float | None, ...] | list[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.{DIGITS}g}") for value in values]
