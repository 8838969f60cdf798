"""What a model costs: counted, tabulated, measured."""

from razorlite.cost.constraint import Constraint, Limit, parse_amount
from razorlite.cost.count import Cost, count
from razorlite.cost.latency import Latency, measure_latency
from razorlite.cost.profile import ThopProfile, thop_profile
from razorlite.cost.table import CostTable

__all__ = [
    "Constraint",
    "Cost",
    "CostTable",
    "Latency",
    "Limit",
    "ThopProfile",
    "count",
    "measure_latency",
    "parse_amount",
    "thop_profile",
]
