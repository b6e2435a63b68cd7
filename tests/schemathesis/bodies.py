"""How bodies that are no JSON are sent."""

import schemathesis


@schemathesis.serializer("application/wasm", "application/x-ndjson")
def raw(_, value):
    """The text or the bytes as they are."""
    return value if isinstance(value, bytes) else str(value).encode()
