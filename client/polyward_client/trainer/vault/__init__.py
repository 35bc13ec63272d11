"""What stays at the site: one file per round with the personal arrays, and one for the finished study.

A file holds several models side by side: the federated one's arrays under their own names, those of the models that
are trained beside it under `alone.` and `ditto.`, and under `previous.` the encoder that the site gave last.

A file is whole or absent, and carries a digest of its content. A damaged one is never passed over in silence: going on
from an older round is a person's decision. Where `site.toml` names a key or a passphrase, every file is sealed.
"""

from __future__ import annotations

from polyward_client.trainer.vault.entries import Entry
from polyward_client.trainer.vault.keys import new_vault_key
from polyward_client.trainer.vault.models import side_by_side, taken_apart
from polyward_client.trainer.vault.vault import Vault, keeps_sealed, open_vault

__all__ = ["Entry", "Vault", "keeps_sealed", "new_vault_key", "open_vault", "side_by_side", "taken_apart"]
