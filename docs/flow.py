"""Draw a ticket's way as a sequence diagram: ``python docs/flow.py`` writes two SVGs.

FLOW is the source. A line ``a -> b: words`` is an arrow, and any other line is a remark
over the whole width.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ACTORS = {
    "page": "The page",
    "django": "Django",
    "storage": "Redis, database, …",
    "server": "Realtime server",
}
FLOW = """\
page -> django: POST /ticket/ (session cookie)
django -> storage: rt_oRbJ… is alice, for 10 s
django -> page: rt_oRbJ…
page -> server: connect, with rt_oRbJ…
server -> storage: take rt_oRbJ…
storage -> server: alice; it is gone now
server -> page: Hello, alice!
Later, alice logs out
page -> django: log out
django -> storage: that login has ended
storage -> server: that login has ended
server -> page: closed, within a second
"""


class Colors(NamedTuple):
    text: str
    soft: str
    line: str
    box: str
    accent: str


SCHEMES = {
    "light": Colors("#1b241f", "#56625b", "#c3ccc5", "#f3f5f1", "#0b7a53"),
    "dark": Colors("#e6ebe8", "#a3afa9", "#465049", "#1a201d", "#46c391"),
}
COLUMN, ROW, TOP, BOX = 232, 34, 74, 164


def draw(colors: Colors) -> str:
    """Return the SVG. It has no background, so that it fits any page of its scheme."""
    columns = {name: BOX // 2 + 1 + COLUMN * i for i, name in enumerate(ACTORS)}
    lines = FLOW.splitlines()
    width, bottom = max(columns.values()) + BOX // 2 + 1, TOP + ROW * len(lines) - 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom}" '
        f'width="{width}" height="{bottom}" role="img" aria-labelledby="title" '
        'font-family="system-ui, sans-serif" font-size="14">',
        f'<title id="title">{escape("; ".join(lines))}</title>',
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{colors.accent}"/></marker>',
    ]
    for name, x in columns.items():
        parts += [
            f'<line x1="{x}" y1="40" x2="{x}" y2="{bottom}" stroke="{colors.line}"/>',
            f'<rect x="{x - BOX // 2}" y="1" width="{BOX}" height="38" rx="8" '
            f'fill="{colors.box}" stroke="{colors.line}"/>',
            words(x, 25, ACTORS[name], colors.text, 'font-weight="600"'),
        ]
    for row, line in enumerate(lines):
        y = TOP + ROW * row
        way, separator, label = line.partition(": ")
        if not separator:
            parts += remark(width, y, line, colors)
            continue
        start, end = (columns[name] for name in way.split(" -> "))
        gap = 4 if start < end else -4
        parts += [
            f'<line x1="{start + gap}" y1="{y}" x2="{end - gap}" y2="{y}" '
            f'stroke="{colors.accent}" stroke-width="1.5" marker-end="url(#tip)"/>',
            words((start + end) // 2, y - 7, label, colors.text),
        ]
    return "\n".join([*parts, "</svg>", ""])


def remark(width: int, y: int, text: str, colors: Colors) -> list[str]:
    return [
        f'<line x1="0" y1="{y}" x2="{width}" y2="{y}" stroke="{colors.line}" '
        'stroke-dasharray="4 4"/>',
        words(width // 2, y - 7, text, colors.soft, 'font-style="italic"'),
    ]


def words(x: int, y: int, text: str, color: str, more: str = "") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="middle" fill="{color}" {more}>'
        f"{escape(text)}</text>"
    )


def main() -> None:
    images = Path(__file__).parent / "images"
    for scheme, colors in SCHEMES.items():
        (images / f"flow-{scheme}.svg").write_text(draw(colors), "utf-8")


if __name__ == "__main__":
    main()
