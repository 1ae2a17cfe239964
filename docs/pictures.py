"""Draw the pictures of the documentation as SVG: two diagrams, and a chart of measured figures.

The chart reads its figures from docs/results/encoder-quality.md, so that picture and page cannot differ.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "encoder-quality.md"
TEXT, LINE, PLAIN, STORED, LEARNED = "#1f2933", "#52606d", "#e6f0fa", "#fdf3d7", "#e4f4e6"
LINE_HEIGHT = 17
FIGURE = re.compile(r"(\d\.\d+) \[(\d\.\d+), (\d\.\d+)\]")


@dataclass(frozen=True)
class Box:
    """A labelled rectangle; `x` and `y` are its upper left corner."""

    x: int
    y: int
    label: str
    fill: str = PLAIN
    width: int = 130
    height: int = 56

    def svg(self) -> str:
        """Return the rectangle with its lines of text in the middle."""
        lines = self.label.split("\n")
        top = self.y + self.height / 2 - (len(lines) - 1) * LINE_HEIGHT / 2 + 4
        middle = self.x + self.width / 2
        texts = [_text(middle, top + LINE_HEIGHT * row, line, bold=row == 0) for row, line in enumerate(lines)]
        rectangle = (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="6" '
            f'fill="{self.fill}" stroke="{LINE}"/>'
        )
        return "\n".join([rectangle, *texts])


def loop() -> str:
    """Return the picture of the loop: one request above, one conversation on its way to an adapter below."""
    boxes = [
        Box(20, 40, "client\nOpenAI SDK"),
        Box(220, 40, "ingress\nCortex, Bouche"),
        Box(420, 40, "Hippocampus\nmemory", STORED),
        Box(680, 40, "LLMServeDeployment\nreplica 1 .. n", width=160),
        Box(420, 170, "curate\nRay Data", LEARNED),
        Box(220, 170, "dataset version\nParquet", STORED),
        Box(20, 170, "train\nRay Train"),
        Box(20, 290, "gate\nmeasurably better?", LEARNED),
        Box(220, 290, "registry\ngeneration n + 1", STORED),
        Box(680, 290, "named actor\nwakes replicas", width=160),
        Box(220, 390, "rejected\nwith its figures", height=48),
    ]
    arrows = [
        _arrow([(150, 60), (220, 60)], "question", (185, 52)),
        _arrow([(220, 80), (150, 80)], "answer", (185, 96)),
        _arrow([(350, 68), (420, 68)], "recall", (385, 60)),
        _arrow(
            [(285, 40), (285, 18), (760, 18), (760, 40)], "prompt with memories; tokens stream back", (522, 12)
        ),
        _arrow([(485, 96), (485, 170)], "with consent", (530, 138)),
        _arrow([(420, 198), (350, 198)]),
        _arrow([(220, 198), (150, 198)]),
        _arrow([(85, 226), (85, 290)], "adapter", (114, 262)),
        _arrow([(150, 318), (220, 318)], "yes", (185, 310)),
        _arrow([(85, 346), (85, 414), (220, 414)], "no", (150, 406)),
        _arrow([(350, 318), (680, 318)], "publish, promote, roll back", (515, 310)),
        _arrow([(760, 290), (760, 96)], "hot swap", (794, 200)),
    ]
    return _picture(860, 450, "The loop of monGARS", [*map(Box.svg, boxes), *arrows])


def request() -> str:
    """Return the picture of the processes that a chat request passes."""
    boxes = [
        Box(20, 120, "Serve's proxy\nHTTP"),
        Box(210, 120, "Ingress\nFastAPI, Cortex"),
        Box(450, 40, "MemoryDeployment\nHippocampus", STORED, width=150),
        Box(450, 200, "LLMServeDeployment\nengine, slots", width=160),
        Box(710, 40, "SQL, cache\nLanceDB index", STORED),
        Box(710, 200, "registry actor\nmanifest", STORED),
    ]
    arrows = [
        _arrow([(150, 148), (210, 148)], "1", (180, 140)),
        _arrow([(340, 135), (395, 135), (395, 62), (450, 62)], "2 recall", (415, 54)),
        _arrow([(340, 165), (395, 165), (395, 228), (450, 228)], "4 generate", (412, 246)),
        _arrow([(510, 200), (510, 96)], "3 embed", (546, 152)),
        _arrow([(275, 120), (275, 20), (525, 20), (525, 40)], "5 remember", (400, 14)),
        _arrow([(600, 68), (710, 68)]),
        _arrow([(710, 228), (610, 228)], "generation", (662, 220)),
    ]
    return _picture(860, 280, "A chat request through the processes", [*map(Box.svg, boxes), *arrows])


def retrieval() -> str:
    """Return a chart of nDCG@10 with its intervals, from the table of results."""
    names = {
        "causal base": "causal base",
        "bidirectional base": "bidirectional base",
        "MNTP": "stage 1: MNTP",
        "SimCSE": "stage 2: SimCSE",
        "turns": "stage 2: turns",
        "BM25": "BM25, for comparison",
    }
    figures = _figures(RESULTS.read_text(encoding="utf-8"))
    left, scale, step = 190, 3000, 34
    parts = [_text(430, 24, "nDCG@10: the reply to a user's turn among 1,000", bold=True)]
    for row, (name, label) in enumerate(names.items()):
        mean, low, high = figures[name]
        y = 44 + step * row
        fill = {"stage": "#5aa469", "BM25,": "#b8c4ce"}.get(label.split()[0].rstrip(":"), "#8fb8de")
        middle = y + 11
        ends = f"M{left + low * scale:.0f} {middle - 5}v10m0 -5H{left + high * scale:.0f}m0 -5v10"
        parts += [
            _text(left - 10, middle + 4, label, anchor="end"),
            f'<rect x="{left}" y="{y}" width="{mean * scale:.0f}" height="22" fill="{fill}"/>',
            f'<path d="{ends}" stroke="{TEXT}" fill="none"/>',
            _text(left + high * scale + 10, middle + 4, f"{mean:.3f}", anchor="start"),
        ]
    return _picture(860, 44 + step * len(names) + 12, "Turn retrieval by encoder", parts)


PICTURES: Mapping[str, Callable[[], str]] = {"loop.svg": loop, "request.svg": request, "retrieval.svg": retrieval}


def _figures(page: str) -> dict[str, tuple[float, float, float]]:
    """Return (mean, low, high) of the last column by the first, of the table with nDCG@10."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    found = {row[0]: FIGURE.fullmatch(row[-1]) for row in rows}
    return {name: (float(m[1]), float(m[2]), float(m[3])) for name, m in found.items() if m}


def _text(x: float, y: float, text: str, *, anchor: str = "middle", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{html.escape(text)}</text>'


def _arrow(points: Sequence[tuple[int, int]], label: str = "", at: tuple[int, int] = (0, 0)) -> str:
    path = " L".join(f"{x} {y}" for x, y in points)
    line = f'<path d="M{path}" fill="none" stroke="{LINE}" marker-end="url(#tip)"/>'
    return f"{line}\n{_text(*at, label)}" if label else line


def _picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """Return a document with a background of its own, to be readable on dark pages as well."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" font-size="13" fill="{TEXT}" role="img">',
            f"<title>{html.escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )
