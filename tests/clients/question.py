"""The question for every client, and the tool that it gets."""

import pydantic

QUESTION = "How does a stream gauge work?"
MESSAGES = [{"role": "user", "content": QUESTION}]
RESULT = "3 metres"
SCHEMA = {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"], "additionalProperties": False}
FUNCTION = {"name": "measure", "description": "Measures a river.", "parameters": SCHEMA}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
RESPONSES_TOOLS = [{"type": "function", **FUNCTION}]
MESSAGES_TOOLS = [{"name": "measure", "description": "Measures a river.", "input_schema": SCHEMA}]


class River(pydantic.BaseModel):
    """The type of parsed structured output."""

    name: str
    metres: int
