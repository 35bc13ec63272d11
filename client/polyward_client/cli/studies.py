"""`polyward-node`: deciding what may run here."""

from __future__ import annotations

from polyward_client.cli.app import STUDIES, SiteArgument, StudyArgument, app
from polyward_client.site import read_site
from polyward_shared.commands import out
from polyward_shared.study import read_study


@app.command(rich_help_panel=STUDIES)
def approve(site: SiteArgument, study: StudyArgument) -> None:
    """Allow a study to run here, after showing what will leave."""
    from polyward_client.approvals import leaving, write_approval
    from polyward_client.trainer.approve import make_approval

    place, wanted = read_site(site), read_study(study)
    approval = make_approval(wanted, place)
    out.print(f"[bold]{wanted.id}[/]  digest {wanted.digest()}", soft_wrap=True)
    out.print(f"trains here: {', '.join(approval.tasks)}")
    if (own := place.file.topology) is not None:
        out.print(f"topology: {own.kind}, this site's own choice; the study's is {wanted.topology.kind}")
    out.print("leaves here:")
    for line in leaving(approval):
        out.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    out.print(
        "stays here: every image, every label, every array and optimiser state that is not named above", soft_wrap=True
    )
    write_approval(place.approved, approval)
    out.print("[green]approved[/]")
