"""Pictures of the pages: figures of recorded runs, copied into docs/pictures/ with the command that made them.

    python -m common.records.ledger picture ch03/rbm filters       # filters.png of the record's first run
    python -m common.records.ledger picture ch07/dqn walk.gif

`ledger record` saves the runs of a record in runs/ledger/<record>/<seed>/. A PNG stores record, command and seed in
text chunks, a GIF in its comment, so that every picture can be traced to its record.
"""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common.files import atomic_path, read_json
from common.records import tables

MOST_BYTES = 150_000
"""Maximum size of a picture."""

WIDTHS = (1_400, 1_100, 900, 700, 500)
"""Widths in pixels that are tried, the largest first."""


def folder() -> Path:
    """Return the folder of all pictures."""
    return tables.ROOT / "docs" / "pictures"


def add_picture(record: str, figure: str, *, seed: int = 0) -> Path:
    """Copy a figure of a recorded run into docs/pictures/chXX/ and return its path.

    Raises FileNotFoundError if the record, run or figure does not exist, ValueError if the picture is too large.
    """
    path = tables.RESULTS / f"{record}.json"
    if not path.is_file():
        raise FileNotFoundError(f"results/{record}.json does not exist: make the record first")
    name = figure if Path(figure).suffix else f"{figure}.png"
    runs = tables.ROOT / "runs" / "ledger" / record / str(seed)
    found = sorted(runs.glob(f"*/*/*/{name}"))
    if not found:
        there = ", ".join(sorted({p.name for p in runs.glob("*/*/*/*") if p.suffix in (".png", ".gif")}))
        raise FileNotFoundError(f"{runs} has no {name}; available: {there or 'none, make the record again'}")
    origin = {"record": record, "command": read_json(path)["command"], "seed": str(seed)}
    chapter, short = record.split("/")
    target = folder() / chapter / f"{short}-{name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = compressed(found[0], origin)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{name} takes {len(content):,} bytes, more than {MOST_BYTES:,}")
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return target


def compressed(source: Path, origin: dict[str, str]) -> bytes:
    """Encode a figure with at most 256 colours, at the largest width that fits into the limit."""
    if source.suffix == ".gif":
        with Image.open(source) as film:
            buffer = io.BytesIO()
            film.save(buffer, format="GIF", save_all=True, comment=json.dumps(origin).encode(), optimize=True)
        return buffer.getvalue()
    text = PngInfo()
    for key, value in origin.items():
        text.add_text(key, value)
    with Image.open(source) as image:
        picture = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    content = b""
    for width in WIDTHS:
        scale = min(1.0, width / picture.width)
        small = picture.resize((round(scale * picture.width), round(scale * picture.height)), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.quantize(256).save(buffer, format="PNG", pnginfo=text, optimize=True)
        content = buffer.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content


def origin_of(picture: Path) -> dict[str, Any]:
    """Read record, command and seed from a picture."""
    with Image.open(picture) as image:
        if picture.suffix == ".gif":
            return json.loads(image.info["comment"])
        return {key: image.info[key] for key in ("record", "command", "seed")}
