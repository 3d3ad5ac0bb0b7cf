"""What can be drilled: values, pure schedules and bounds."""

from outlast.drill.scenarios.catalogue import SCENARIOS
from outlast.drill.scenarios.sight import Figure, Sight
from outlast.drill.scenarios.story import Scenario

__all__ = ["SCENARIOS", "Figure", "Scenario", "Sight"]
