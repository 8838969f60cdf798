"""Search spaces of models that razorlite has: preparers that know their parts."""

from razorlite.search.spaces.block_widths import BlockWidths
from razorlite.search.spaces.input_scale import InputScales
from razorlite.search.spaces.mmrazor import save_mmrazor
from razorlite.search.spaces.once_for_all import OnceForAll
from razorlite.search.spaces.precision import MixedPrecision
from razorlite.search.spaces.queries import ElasticQueries

__all__ = [
    "BlockWidths",
    "ElasticQueries",
    "InputScales",
    "MixedPrecision",
    "OnceForAll",
    "save_mmrazor",
]
