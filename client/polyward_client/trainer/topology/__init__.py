"""How branches hang on the pyramid. A topology is a module called with the pyramid, the branches and the task names
that are wanted, and returns one output per name; parameters that belong to several tasks are its own and carry the
prefix `interaction.` in the model."""

from __future__ import annotations

from torch import nn

from polyward_client.trainer.topology.parallel import Parallel
from polyward_shared.study import Study


def build_topology(study: Study) -> nn.Module:
    match study.topology.kind:
        case "parallel":
            return Parallel()
