"""What a single value of the configuration may be, and the table it stands in."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from outlast.core.policy import MAX_TTL_SECONDS
from outlast.edges.settings.rules import variable

__all__ = [
    "Count",
    "Dollars",
    "Name",
    "Partitions",
    "Patience",
    "Prefix",
    "Seconds",
    "Table",
    "Text",
    "Ttl",
    "Variable",
]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]
Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=100)]
Text = Annotated[str, StringConstraints(min_length=1)]
Variable = Annotated[str, AfterValidator(variable)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Patience = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ttl = Annotated[float, Field(gt=0, le=MAX_TTL_SECONDS)]
Dollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Partitions = Annotated[int, Field(ge=1, le=1_000)]


class Table(BaseModel):
    """A table of the file: unknown keys are mistakes, and no input is shown in a traceback."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
