"""The page of the documentation that the oracle's programs write their tables into."""

from pathlib import Path

PAGE = Path("docs/operators.md")


def replace(name: str, content: str) -> None:
    """Put ``content`` between the page's markers of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n{content}\n{end}{after}", encoding="utf-8")
