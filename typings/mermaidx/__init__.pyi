# The part of mermaidx 0.10 that draws the charts; the package itself carries no types.
from typing import Any

class Diagram:
    def svg(self) -> str: ...

def render(source: str, *, config: dict[str, Any] | None = ...) -> Diagram: ...
