"""What a model costs: counted, tabulated, measured."""

import sys

from razorlite.core.command_package import CommandPackage
from razorlite.cost.amounts import parse_amount
from razorlite.cost.bitops import BitOperations
from razorlite.cost.constraint import Constraint, Limit
from razorlite.cost.corrected import CorrectedCost
from razorlite.cost.count import Cost, count
from razorlite.cost.factored import FactoredCost, Part, PointCost
from razorlite.cost.joined import JoinedCost
from razorlite.cost.latency import Latency, measure_latency
from razorlite.cost.latency_table import LatencyTable
from razorlite.cost.measuring import measured_latency
from razorlite.cost.memory import memory_trace, peak_memory
from razorlite.cost.model import CostModel, cost_text, shown
from razorlite.cost.pairs import PairCost, Sides
from razorlite.cost.profile import ThopProfile, thop_profile
from razorlite.cost.table import CostTable
from razorlite.cost.tabulate import tabulate
from razorlite.cost.timed import LatencyConfig, Opened, Timer

__all__ = [
    "BitOperations",
    "Constraint",
    "CorrectedCost",
    "Cost",
    "CostModel",
    "CostTable",
    "FactoredCost",
    "JoinedCost",
    "Latency",
    "LatencyConfig",
    "LatencyTable",
    "Limit",
    "Opened",
    "PairCost",
    "Part",
    "PointCost",
    "Sides",
    "ThopProfile",
    "Timer",
    "cost_text",
    "count",
    "measure_latency",
    "measured_latency",
    "memory_trace",
    "parse_amount",
    "peak_memory",
    "shown",
    "tabulate",
    "thop_profile",
]

sys.modules[__name__].__class__ = CommandPackage
