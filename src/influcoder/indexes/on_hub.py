"""What an index can do with the Hugging Face hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from influcoder.model.decoder import Decoder

if TYPE_CHECKING:
    from influcoder.indexes.index import Index


class OnHub:
    """An index that is opened from the hub, or pushed to it (`influcoder.indexes.hub`)."""

    @classmethod
    def from_pretrained(cls, name: str | Path, *, decoder: Decoder | None = None, **where: Any) -> "Index":
        """Open an index of the Hugging Face hub, or of a folder that somebody else wrote; every hash is checked first.

        Args:
            name: a hub id such as "owner/name", or a folder.
            decoder: the one that its encoder was distilled from, if it is to be searched with exact gradients.
            where: revision, token and cache_dir, as of `InfluenceEncoder.from_pretrained`.

        Raises:
            ModelError: neither folder nor hub has it, the decoder is another one, or a file might run code.
            StoreError: not an index, of another format version, or damaged.
        """
        from influcoder.indexes import hub

        return hub.open_pushed(name, decoder, **where)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push an influence index",
        proof: Path | None = None,
        license: str | None = None,
        **options: Any,
    ) -> str:
        """Upload it as a data set of the hub: texts, vectors and encoder, with a card; returns the commit's address.

        Args:
            proof, options: as of `InfluenceEncoder.push_to_hub`.
            license: of the texts.

        Raises:
            ModelError: the hub refuses.
        """
        from influcoder.indexes import hub
        from influcoder.store.hub import Destination

        to = Destination(repo_id, commit_message, **options)
        return hub.push(cast("Index", self), to, proof=proof, license=license)
