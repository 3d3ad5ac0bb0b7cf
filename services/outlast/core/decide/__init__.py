"""What happens next to a job: before a call, after a call, and when a stage looks at it again."""

from outlast.core.decide.after import after_call
from outlast.core.decide.before import (
    Go,
    back_to_parking,
    before_call,
    next_after_parking,
    next_step,
    next_target,
    over_budget,
)
from outlast.core.decide.situation import Situation, View, facing, situation

__all__ = [
    "Go",
    "Situation",
    "View",
    "after_call",
    "back_to_parking",
    "before_call",
    "facing",
    "next_after_parking",
    "next_step",
    "next_target",
    "over_budget",
    "situation",
]
