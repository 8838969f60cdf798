"""The number of a detector's queries as a dimension of a space."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Filled
from razorlite.core.registry import register
from razorlite.models.queries import QueryModel, fewer_rows
from razorlite.space.dimension import Dimension, Values
from razorlite.space.elastic import twin_of
from razorlite.space.mutable import Mutable
from razorlite.space.mutator import Preparer, put_in_place


class ElasticRows(Mutable, nn.Embedding):
    """A table of which the first rows are there.

    Attributes:
        option: how many may be there.
        num_embeddings: how many are.
    """

    option: Dimension

    @classmethod
    def of(cls, table: nn.Embedding, option: Dimension) -> "ElasticRows":
        """Return the elastic form of a table, with the same weights."""
        own = twin_of(table, cls)
        own.option = option
        return own

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The (K, D) rows that are there."""
        whole = self._parameters["weight"]
        assert whole is not None
        return whole[: self.num_embeddings]

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """How many rows are there."""
        return (self.option,)

    @property
    def values(self) -> Values:
        """How many rows are there."""
        return {self.option.name: self.num_embeddings}

    def set(self, values: Values) -> None:
        """Have so many rows."""
        self.num_embeddings = int(values[self.option.name])

    def export(self, values: Values) -> nn.Module:
        """Return a plain table of the rows that are there at these values."""
        plain = twin_of(self, nn.Embedding)
        del plain.__dict__["option"]
        return fewer_rows(plain, range(int(values[self.option.name])))

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return the rows that are there at these values."""
        return {name: rows[: int(values[self.option.name])] for name, rows in state.items()}


@register()
class ElasticQueries(Preparer):
    """Lets a detector with learnt queries (`DETR`) ask its first ones alone: `queries`.

    Each query stands for itself, so that fewer cost nothing but what they would have found. Trained
    with few and many, the first ones come to find most.
    """

    def __init__(self, *, queries: Annotated[Sequence[Count], Filled()]) -> None:
        """Keep the settings.

        Args:
            queries: how many there may be; the model's own number always is among them, and greater
                ones are left out.
        """
        self.queries = tuple(queries)

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Make the table of the queries elastic.

        Raises:
            ConfigError: the model has no such table; it is unchanged.
        """
        table = getattr(model, "query_embedding", None)
        if not isinstance(model, QueryModel) or type(table) is not nn.Embedding:
            raise ConfigError(
                f"mutator: ElasticQueries is for detectors with a table of queries, such as DETR; "
                f"this is a {type(model).__name__}"
            )
        whole = table.num_embeddings
        counts = sorted({count for count in self.queries if count < whole} | {whole})
        if len(counts) == 1:
            raise ConfigError(f"mutator: ElasticQueries.queries wants fewer than {whole}")
        put_in_place(model, table, ElasticRows.of(table, Dimension("queries", tuple(counts))))
