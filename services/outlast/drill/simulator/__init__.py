"""A simulated provider: speaks a family's own API over HTTP and fails in every known way.

For tests, the demo and drills; it is never part of a deployment. ``python -m
outlast.drill.simulator --family deepseek --port 8101 --control-port 8102`` runs one as a process.
"""

from outlast.drill.simulator.behaviour import MODES, Behaviour, Mode
from outlast.drill.simulator.counters import Counters, content_key
from outlast.drill.simulator.server import Simulator

__all__ = ["MODES", "Behaviour", "Counters", "Mode", "Simulator", "content_key"]
