"""From OpenAI's tools and tool choice to Anthropic's."""

from collections.abc import Mapping

__all__ = ["tool_choice_of", "tools_of"]

CHOICES = {"auto": "auto", "none": "none", "required": "any"}
NO_PARAMETERS = {"type": "object", "properties": {}}


def tools_of(tools: object) -> list[dict[str, object]] | None:
    """``function.parameters`` becomes ``input_schema``; no tools at all is ``None``."""
    if not isinstance(tools, list) or not tools:
        return None
    return [_tool(tool) for tool in tools if isinstance(tool, Mapping)]


def _tool(tool: Mapping[str, object]) -> dict[str, object]:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)
    translated = {
        "name": function.get("name"),
        "description": function.get("description"),
        "input_schema": function.get("parameters") or NO_PARAMETERS,
    }
    return {key: value for key, value in translated.items() if value is not None}


def tool_choice_of(choice: object, parallel: object) -> dict[str, object] | None:
    """``required`` is ``any``; a named function is ``tool``; no parallel calls is a flag of it."""
    translated = _choice(choice)
    if parallel is False:
        translated = translated or {"type": "auto"}
        if translated["type"] != "none":
            translated["disable_parallel_tool_use"] = True
    return translated


def _choice(choice: object) -> dict[str, object] | None:
    match choice:
        case str() if choice in CHOICES:
            return {"type": CHOICES[choice]}
        case {"function": {"name": name}}:
            return {"type": "tool", "name": name}
        case _:
            return None
