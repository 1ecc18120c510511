"""Mazes: carved by three algorithms, read from text, and measured by breadth-first search.

A maze of R x C cells is a picture of (2R + 1) x (2C + 1) tiles: cells at odd rows and columns, walls or passages
between them. As in the book the start is an opening in the west wall beside the first cell, the exit one in the east
wall beside the last. A perfect maze has exactly one path between any two tiles; loops are walls that were opened
afterwards.

Dimensions: R rows and C columns of cells, H = 2R + 1 and W = 2C + 1 tiles.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.config import require
from common.data.source import DataCard, sha256_of

Algorithm = Literal["depth-first", "prim", "kruskal"]
Rewards = Literal["exit", "book"]
Tile = tuple[int, int]
"""Row and column."""
Passage = tuple[Tile, Tile]
"""Two neighbouring cells, joined."""

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""What the actions 0 ... 3 add to row and column: up, right, down, left."""

WALL, FLOOR, START, EXIT, WALKER = "#", " ", "S", "E", "@"
LEGEND = f"{WALL!r} wall, {FLOOR!r} or '.' floor, {START!r} start, {EXIT!r} exit"


@dataclass(frozen=True, eq=False)
class Maze:
    """Walls, and where to go from where to where."""

    walls: Tensor
    """(H, W) bool"""
    start: Tile
    exit: Tile

    def __str__(self) -> str:
        return letters(self)


# Carving. Every algorithm joins all cells without a circle: it draws a spanning tree of the grid.


def depth_first(rows: int, columns: int, rng: random.Random) -> Iterator[Passage]:
    """Walk into any unvisited neighbour, and back where there is none: long corridors, few branches."""
    stack = [(rng.randrange(rows), rng.randrange(columns))]
    visited = set(stack)
    while stack:
        cell = stack[-1]
        fresh = [other for other in _neighbours(cell, rows, columns) if other not in visited]
        if not fresh:
            stack.pop()
            continue
        other = rng.choice(fresh)
        visited.add(other)
        stack.append(other)
        yield cell, other


def prim(rows: int, columns: int, rng: random.Random) -> Iterator[Passage]:
    """Grow from one cell through any wall of what is joined so far: many short dead ends."""
    first = (rng.randrange(rows), rng.randrange(columns))
    visited = {first}
    edge = [(first, other) for other in _neighbours(first, rows, columns)]
    while edge:
        place = rng.randrange(len(edge))
        edge[place], edge[-1] = edge[-1], edge[place]
        cell, other = edge.pop()
        if other not in visited:
            visited.add(other)
            edge += [(other, further) for further in _neighbours(other, rows, columns) if further not in visited]
            yield cell, other


def kruskal(rows: int, columns: int, rng: random.Random) -> Iterator[Passage]:
    """Open walls in random order wherever they part two regions: between the other two in character."""
    region = {cell: cell for cell in _cells(rows, columns)}

    def root(cell: Tile) -> Tile:
        while region[cell] != cell:
            region[cell] = region[region[cell]]  # halve the way for the next who asks
            cell = region[cell]
        return cell

    passages = _passages(rows, columns)
    rng.shuffle(passages)
    for cell, other in passages:
        one, two = root(cell), root(other)
        if one != two:
            region[one] = two
            yield cell, other


CARVE: dict[Algorithm, Callable[[int, int, random.Random], Iterator[Passage]]] = {
    "depth-first": depth_first,
    "prim": prim,
    "kruskal": kruskal,
}


def carve(
    rows: int, columns: int, rng: random.Random, *, algorithm: Algorithm = "depth-first", loops: float = 0.0
) -> Maze:
    """Draw a maze of rows x columns cells; `loops` is the share of the remaining inner walls that is opened too."""
    require(rows >= 1 and columns >= 1, "a maze needs at least one row and one column of cells", f"{rows}x{columns}")
    require(0 <= loops <= 1, "--loops must be between 0 and 1", loops)
    opened = list(CARVE[algorithm](rows, columns, rng))
    if loops > 0:
        known = {frozenset(passage) for passage in opened}
        closed = [passage for passage in _passages(rows, columns) if frozenset(passage) not in known]
        opened += rng.sample(closed, round(loops * len(closed)))
    tiles = [[True] * (2 * columns + 1) for _ in range(2 * rows + 1)]
    for row, column in _cells(rows, columns):
        tiles[2 * row + 1][2 * column + 1] = False
    for (r, c), (s, d) in opened:
        tiles[r + s + 1][c + d + 1] = False
    start, way_out = (1, 0), (2 * rows - 1, 2 * columns)
    for row, column in (start, way_out):
        tiles[row][column] = False
    return Maze(torch.tensor(tiles), start, way_out)


def _cells(rows: int, columns: int) -> Iterator[Tile]:
    return ((row, column) for row in range(rows) for column in range(columns))


def _neighbours(cell: Tile, rows: int, columns: int) -> list[Tile]:
    around = [(cell[0] + down, cell[1] + right) for down, right in MOVES]
    return [(row, column) for row, column in around if 0 <= row < rows and 0 <= column < columns]


def _passages(rows: int, columns: int) -> list[Passage]:
    """List every pair of neighbouring cells once."""
    return [
        (cell, other) for cell in _cells(rows, columns) for other in _neighbours(cell, rows, columns) if cell < other
    ]


def draw_mazes(
    count: int,
    rows: int,
    columns: int,
    *,
    seed: int,
    algorithms: Sequence[Algorithm] = ("depth-first",),
    loops: Sequence[float] = (0.0,),
) -> list[Maze]:
    """Draw a number of mazes of one size, cycling through the algorithms and the shares of loops."""
    rng = random.Random(seed)
    kinds: list[tuple[Algorithm, float]] = [(algorithm, share) for share in loops for algorithm in algorithms]
    return [
        carve(rows, columns, rng, algorithm=algorithm, loops=share)
        for algorithm, share in (kinds[number % len(kinds)] for number in range(count))
    ]


def card_of(mazes: Sequence[Maze], description: str) -> DataCard:
    """Say which mazes a run used."""
    ends = torch.tensor([(maze.start, maze.exit) for maze in mazes])
    return DataCard("mazes", True, sha256_of(torch.stack([maze.walls for maze in mazes]), ends), description)


# Pictures.


def letters(maze: Maze, at: Tile | None = None) -> str:
    """Write a maze as text, with whoever walks in it."""
    rows = [[WALL if wall else FLOOR for wall in row] for row in maze.walls.tolist()]
    for tile, letter in ((maze.start, START), (maze.exit, EXIT), (at, WALKER)):
        if tile is not None:
            rows[tile[0]][tile[1]] = letter
    return "\n".join("".join(row) for row in rows)


def colours(maze: Maze, at: Tile | None = None, *, path: Sequence[Tile] = (), scale: int = 1) -> Tensor:
    """Paint a maze, a path through it and whoever walks there, as (scale H, scale W, 3) uint8."""
    picture = torch.full((*maze.walls.shape, 3), 250, dtype=torch.uint8)
    picture[maze.walls] = torch.tensor([45, 52, 64], dtype=torch.uint8)
    marks = [(tile, (140, 190, 230)) for tile in path]
    marks += [(maze.start, (0, 114, 178)), (maze.exit, (0, 158, 115))] + ([(at, (213, 94, 0))] if at else [])
    for (row, column), colour in marks:
        picture[row, column] = torch.tensor(colour, dtype=torch.uint8)
    return picture.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


# What an environment pays.


def worth_of(maze: Maze, rewards: Rewards = "exit") -> tuple[Tensor, float]:
    """Give (H, W) the reward for entering each tile, and the one for walking into a wall.

    `exit`: 1 for the exit, nothing else. With a discount g < 1 a tile that is d steps away is worth g^(d - 1), so the
    shortest path is the best; nothing else about the maze is given away. `book`: 100 for the exit, -100 for a wall and
    for the start, and for each floor tile 0 or -1, drawn once with a fixed seed (the same in every run).
    """
    if rewards == "exit":
        worth, bump = torch.zeros(maze.walls.shape), 0.0
        worth[maze.exit] = 1.0
        return worth, bump
    penalties = torch.randint(2, maze.walls.shape, generator=torch.Generator().manual_seed(0))
    worth, bump = -penalties.float(), -100.0
    worth[maze.start], worth[maze.exit] = -100.0, 100.0
    return worth, bump


# Text: a line a row, a letter a tile.


def parse_maze(text: str, where: Path | str = "the maze") -> Maze:
    """Read a drawn maze.

    Raises ValueError, naming the place and what to change, for unknown letters, rows of several lengths, a start or an
    exit that is missing or there twice, and an exit that cannot be next_state.
    """
    rows = text.replace(".", FLOOR).rstrip().splitlines()
    if not rows:
        raise ValueError(f"{where} is empty: draw it with {LEGEND}")
    width = max(map(len, rows))
    rows = [row.ljust(width) for row in rows]  # editors cut spaces at the end of a line
    found: dict[str, list[Tile]] = {START: [], EXIT: []}
    for r, row in enumerate(rows):
        for c, letter in enumerate(row):
            if letter in found:
                found[letter].append((r, c))
            elif letter not in (WALL, FLOOR):
                raise ValueError(f"{where} has {letter!r} in line {r + 1}, column {c + 1}: the letters are {LEGEND}")
    for letter, name in ((START, "start"), (EXIT, "exit")):
        if not found[letter]:
            raise ValueError(f"{where} has no {name}: put one {letter!r} where it is")
        if len(found[letter]) > 1:
            lines = " and ".join(f"{r + 1}" for r, _ in found[letter])
            raise ValueError(f"{where} has {len(found[letter])} {name}s, in lines {lines}: leave one {letter!r}")
    walls = torch.tensor([[letter == WALL for letter in row] for row in rows])
    maze = Maze(walls, found[START][0], found[EXIT][0])
    if distances(maze)[maze.start] < 0:
        raise ValueError(f"{where}: the exit cannot be reached from the start: open a wall between them")
    return maze


def read_maze(path: Path) -> Maze:
    """Read a drawn maze from a text file; errors are those of `parse_maze`, and FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: draw a maze with {LEGEND}")
    try:
        return parse_maze(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}): draw a maze with {LEGEND}") from error


# Shortest paths, for evaluation only.


def distances(maze: Maze) -> Tensor:
    """(H, W) int64 steps from each tile to the exit, by breadth-first search; -1 for walls and where none leads"""
    walls = maze.walls.tolist()
    steps = [[-1] * len(row) for row in walls]
    steps[maze.exit[0]][maze.exit[1]] = 0
    queue = deque([maze.exit])
    while queue:
        row, column = queue.popleft()
        for down, right in MOVES:
            r, c = row + down, column + right
            if 0 <= r < len(walls) and 0 <= c < len(walls[0]) and not walls[r][c] and steps[r][c] < 0:
                steps[r][c] = steps[row][column] + 1
                queue.append((r, c))
    return torch.tensor(steps)


def shortest_path(maze: Maze) -> list[Tile]:
    """Give the tiles of a shortest path, start and exit included; of several, the first by the order of MOVES.

    Raises ValueError where there is none.
    """
    steps = distances(maze)
    path = [maze.start]
    require(bool(steps[maze.start] >= 0), "the exit cannot be reached from the start", maze.start)
    height, width = steps.shape
    while path[-1] != maze.exit:
        row, column = path[-1]
        around = [(row + down, column + right) for down, right in MOVES]
        inside = [tile for tile in around if 0 <= tile[0] < height and 0 <= tile[1] < width]
        path.append(next(tile for tile in inside if steps[tile] == steps[row, column] - 1))
    return path
