"""What all pages have in common: the templates' environment, and how figures, metrics, bytes and times are written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from polyward_deploy.results import ABSENT, shown
from polyward_shared.tasks import arrow

METRIC_NAMES = {
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "c_index": "C index",
    "cldice": "clDice",
    "iou": "IoU",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "rmse": "root mean squared error",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "kappa": "weighted kappa",
    "mae": "mean absolute error",
    "r2": "R²",
    "dice": "Dice",
    "loss": "loss",
}


def template(name: str) -> Template:
    """A template of this package, with the filters that pages use. What it is given is escaped."""
    environment = Environment(
        loader=PackageLoader("polyward_deploy"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=shown,
        metric=lambda name: METRIC_NAMES.get(name, name.replace("_", " ")),
        arrow=arrow,
        amount=amount,
        duration=duration,
        breakable=_breakable,
    )
    return environment.get_template(name)


def written(folder: Path, name: str, text: str) -> Path:
    """Writes a page into a folder, made if need be, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def amount(count: int) -> str:
    """Bytes as people read them; a dash where nothing crossed."""
    if not count:
        return ABSENT
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """A time as people read it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _breakable(name: str) -> Markup:
    """The name, with a line break allowed after each underscore."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def date(text: str) -> str:
    """The date without fractions of seconds, as it is where it cannot be read."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()
